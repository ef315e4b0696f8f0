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
MAX_BODY_BYTES: Final = 1 << 20
"""Bytes: 1 MiB."""
MAX_LENGTH_DIGITS: Final = 19
"""Of Content-Length: the digits of the largest length that an HTTP parser takes."""


class IdConvertor(StringConvertor):
    """An id in a path, slashes and line ends included; `path_id` checks it."""

    regex = "(?s:.*)"


register_url_convertor("id", IdConvertor())


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Errors: `Problem` 413 as soon as more than `limit` bytes are announced or received, 400
    where the body or its length is malformed."""
    if _content_length(request) > limit:
        raise too_large()
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large()
            chunks.append(chunk)
    except ClientDisconnect:
        raise malformed("cut_short") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _content_length(request: Request) -> int:
    """Bytes of Content-Length, 0 without the header. Errors: `Problem` 400 for no number, or one of more than
    `MAX_LENGTH_DIGITS` digits, leading zeros included: int() takes no text of any length."""
    length = request.headers.get("content-length", "0")
    if len(length) > MAX_LENGTH_DIGITS or not (length.isascii() and length.isdigit()):
        detail = f"Content-Length must be a number of at most {MAX_LENGTH_DIGITS} digits."
        raise Problem(400, "malformed", detail, [("Content-Length", "malformed")])
    return int(length)


def check_query(request: Request, *allowed: str) -> None:
    """Errors: `Rejected` with the first parameter that is not `allowed`."""
    if not request.scope["query_string"]:
        return
    for name in request.query_params:
        if name not in allowed:
            raise Rejected(re.sub(r"[^\w.\-]", "?", name[:64]) or "query", "unknown_field")


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """The decoded body. Errors: `Problem` 400 where it is no JSON, `Rejected` where its JSON has another
    shape."""
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
    """The id `name` of the path, as `check_id` spells it; errors name it `field`. Errors: `Rejected`."""
    value: str = request.path_params[name]
    if "\ufffd" in value:  # the server's replacement of bytes that are no UTF-8
        try:
            unquote_to_bytes(request.scope.get("raw_path", b"")).decode()
        except UnicodeDecodeError:
            raise Rejected(field or name, "not_utf8") from None
    return check_id(value, field or name)


def too_large() -> Problem:
    return Problem(413, "too_large", f"At most {MAX_BODY_BYTES} bytes.", [("body", "too_large")])


def malformed(code: str) -> Problem:
    return Problem(400, "malformed", "The body can't be read.", [("body", code)])


IDEMPOTENCY_KEY: Final = (
    "Idempotency-Key",
    "header",
    ID,
    (
        "Names what has no id of its own (an event by its place in the request), so a retry counts once. It"
        " stands for one body for 24 hours: another one is a 422 with the code idempotency_key_reused."
    ),
)


def is_ndjson(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-ndjson")


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else check_id(key, "Idempotency-Key")
