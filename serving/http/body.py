"""Reading a request: a body of bounded size, JSON of a known shape, ids from the path."""

from __future__ import annotations

import re
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request

from schemas.identity import check_id
from schemas.reject import Rejected, from_validation
from serving.http.errors import Problem
from serving.http.openapi import ID

T = TypeVar("T")
MAX_BODY: Final = 1 << 20
"""Bytes: 1 MiB."""
MOST_DIGITS: Final = 19
"""Of a length: those of the largest that a parser of HTTP counts to."""


class IdConvertor(StringConvertor):
    """An id in a path, slashes, line ends and all: what is wrong with one, `path_id` says."""

    regex = "(?s:.*)"


register_url_convertor("id", IdConvertor())


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The whole body. Errors: `Problem` 413 as soon as it is known to be too large, 400."""
    if _announced(request) > limit:
        raise too_large()
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large()
            parts.append(part)
    except ClientDisconnect:
        raise malformed("cut_short") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _announced(request: Request) -> int:
    """Bytes of Content-Length, 0 without one. Errors: `Problem` 400 beyond `MOST_DIGITS`, for which zeros
    before a number count too: int() takes no text of any length."""
    length = request.headers.get("content-length", "0")
    if len(length) > MOST_DIGITS or not (length.isascii() and length.isdigit()):
        detail = f"Content-Length must be a number of at most {MOST_DIGITS} digits."
        raise Problem(400, "malformed", detail, [("Content-Length", "malformed")])
    return int(length)


def check_query(request: Request, *known: str) -> None:
    """Errors: `Rejected` naming the first parameter that the route does not know."""
    if not request.scope["query_string"]:
        return
    for name in request.query_params:
        if name not in known:
            raise Rejected(re.sub(r"[^\w.\-]", "?", name[:64]) or "query", "unknown_field")


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Errors: `Problem` 400 where it is no JSON, `Rejected` where it is JSON of another shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except UnicodeDecodeError:
        raise malformed("not_utf8") from None
    except RecursionError:
        raise malformed("too_deep") from None
    except msgspec.DecodeError:
        raise malformed("malformed_json" if body else "empty") from None


def path_id(request: Request, name: str, field: str | None = None) -> str:
    """An id out of the path. Errors: `Rejected`."""
    value: str = request.path_params[name]
    if "\ufffd" in value:  # the server put it in the place of bytes that are no UTF-8
        try:
            unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
        except UnicodeDecodeError:
            raise Rejected(field or name, "not_utf8") from None
    return check_id(value, field or name)


def too_large() -> Problem:
    return Problem(413, "too_large", f"At most {MAX_BODY} bytes.", [("body", "too_large")])


def malformed(code: str) -> Problem:
    return Problem(400, "malformed", "The body can't be read.", [("body", code)])


IDEMPOTENCY_KEY: Final = (
    "Idempotency-Key",
    "header",
    ID,
    "With the event's index it names an event that has no event_id, so a retry counts once.",
)


def is_ndjson(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-ndjson")


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else check_id(key, "Idempotency-Key")
