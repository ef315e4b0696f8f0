"""Media types of request bodies: JSON and, where a route takes several entries, NDJSON."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from serving.http.errors import Problem

JSON: Final = "application/json"
NDJSON: Final = (
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
)
"""The names that programs give to lines of JSON; none of them is registered."""
_UTF8: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})
_USUAL: Final = {
    JSON.encode(): JSON,
    b"application/json; charset=utf-8": JSON,
    b"application/json;charset=utf-8": JSON,
    b"application/json; charset=UTF-8": JSON,
    b"application/json;charset=UTF-8": JSON,
    **{name.encode(): name for name in NDJSON},
}
"""Values of Content-Type as most clients write them: one look-up for most requests."""


def taken(lines: bool) -> tuple[str, ...]:
    """The media types that a route takes. `lines`: NDJSON too."""
    return (JSON, *NDJSON) if lines else (JSON,)


def media_type(value: bytes) -> str:
    """The media type that the value of a Content-Type names, without its parameters; "" where it is none of
    ours or names a charset that is not UTF-8.

    >>> media_type(b"Application/JSON; charset=UTF-8"), media_type(b"application/json; charset=latin-1")
    ('application/json', '')
    """
    return _USUAL[value] if value in _USUAL else _parsed(value.decode("latin-1"))


def is_usual(value: bytes) -> bool:
    """Whether a Content-Type of this value is one of ours, as most clients write it."""
    return value in _USUAL


def _parsed(value: str) -> str:
    name, *parameters = [part.strip(" \t") for part in value.lower().split(";")]
    for parameter in parameters:
        key, _, given = parameter.partition("=")
        if key.strip() == "charset" and given.strip().strip('"') not in _UTF8:
            return ""
    return name if name in taken(lines=True) else ""


def check_media_type(value: bytes, method: str, *, lines: bool) -> None:
    """Errors: `Problem` 415 unless a route takes a Content-Type of this value, "" where there is none: a page
    of any site may send a body without a type. `lines`: it takes NDJSON."""
    found = media_type(value)
    if found == JSON or (lines and found):
        return
    types = ", ".join(taken(lines))
    headers = {"Accept": types}
    if method in ("POST", "PATCH"):  # PUT has no such header
        headers[f"Accept-{method.title()}"] = types
    raise Problem(
        415,
        "unsupported_media_type",
        f"This route takes a body in UTF-8 of the Content-Type {' or '.join(taken(lines))}. Send the header"
        f" Content-Type: {JSON} with JSON (curl: --json).",
        [("Content-Type", "unsupported" if value else "required")],
        headers,
    )


@lru_cache(maxsize=64)
def is_ndjson(value: bytes) -> bool:
    """Whether a Content-Type of this value is one of lines."""
    return media_type(value) not in (JSON, "")
