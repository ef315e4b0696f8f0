"""The query string of a request: the parameters that a route has, each at most once."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from schemas.reject import Rejected
from serving.http.errors import Problem

MAX_QUERY_BYTES: Final = 32 * 1024
IN_A_BODY: Final = "Send what is longer in a body."


def check_query(request: Request, *allowed: str) -> dict[str, str]:
    """The parameters that are said, of those `allowed`. Errors: as `pairs`'."""
    raw = request.scope["query_string"]
    return {name: text for name, text in pairs(raw, allowed) if text} if raw else {}


def pairs(
    raw: bytes, allowed: Collection[str], lists: Container[str] = (), instead: str = IN_A_BODY
) -> Iterator[tuple[str, str]]:
    """Each parameter of a query string and its text, "" too. `lists`: those that may come again. `instead`:
    what to do where the query is too long.

    Errors: `Rejected` for a parameter that is not `allowed`, comes again or is no UTF-8; `Problem` 414.

    >>> list(pairs(b"a=1&&b=x%20y&a=&", ("a", "b"), lists="a"))
    [('a', '1'), ('b', 'x y'), ('a', '')]
    """
    if len(raw) > MAX_QUERY_BYTES:
        raise too_long(f"A query takes at most {MAX_QUERY_BYTES} bytes.", instead)
    seen: set[str] = set()
    for pair in filter(None, raw.split(b"&")):  # what is empty between two & is no parameter
        encoded, _, value = pair.partition(b"=")
        name = _decoded(encoded, "query")
        if name not in allowed:
            # the name may hold anything, so the error shows it only where it looks like a name
            plain = name.replace("_", "").isalnum() and name.isascii() and len(name) <= 64
            raise Rejected(name if plain else "query", "unknown_field", _taken(allowed))
        if name in seen and name not in lists:
            raise Rejected(name, "repeated")
        seen.add(name)
        yield name, _decoded(value, name)


def too_long(what: str, instead: str) -> Problem:
    """A 414. `what`: the bound, in a sentence; `instead`: what to do, in another one."""
    return Problem(414, "uri_too_long", f"{what} {instead}", [("query", "too_large")])


def _taken(allowed: Collection[str]) -> str:
    return f"The query takes {', '.join(allowed) or 'no parameters'}."


def _decoded(value: bytes, field: str) -> str:
    if b"+" in value:
        value = value.replace(b"+", b" ")
    try:
        return (unquote_to_bytes(value) if b"%" in value else value).decode()
    except UnicodeDecodeError:
        raise Rejected(field, "not_utf8") from None
