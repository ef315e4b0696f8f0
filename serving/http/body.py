"""Reading a request: a body of bounded size, JSON of a known shape, ids from the path, its trace."""

from __future__ import annotations

import codecs
import re
from typing import Final, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request

from models.kernels.repeated_keys import ANY_DEPTH, repeated_key
from schemas.api.patterns import ID
from schemas.headers import TRACEPARENT, valid_traceparent
from schemas.identity import check_id
from schemas.reject import Rejected, from_validation
from serving.http import media
from serving.http.bounds import MAX_LENGTH_DIGITS, malformed_length
from serving.http.codings import coding_of, inflate
from serving.http.errors import malformed, too_large
from serving.http.media import check_media_type

T = TypeVar("T")
MAX_BODY_BYTES: Final = 1 << 20
"""Bytes: 1 MiB."""
UTF8_ONLY: Final = "A body must be in UTF-8."
_TRACEPARENT: Final = TRACEPARENT.encode()
_TYPE: Final = b"content-type"
_CODING: Final = b"content-encoding"
_LENGTH: Final = b"content-length"
_READ: Final = frozenset({_TYPE, _CODING, _LENGTH})
_WIDE_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_WIDE: Final = re.compile(rb"\0[^\0]\0[^\0]|[^\0]\0[^\0]\0|\0\0\0[^\0]|[^\0]\0\0\0")
"""The first four bytes of JSON in UTF-16 or UTF-32, in either order."""

_PLAIN_LINE_END: Final = re.compile(rb"(?<!\0)\n(?!\0)")
"""Of one byte: the first line alone is damaged then, and costs itself."""


class IdConvertor(StringConvertor):
    """An id in a path, slashes and line ends included; `path_id` checks it."""

    regex = "(?s:.*)"


class PlainIdConvertor(IdConvertor):
    """An id that does not end as the route of similar items does: encoded, it is an id, plain, the route."""

    regex = r"(?s:(?!.*/similar\Z).*)"


register_url_convertor("id", IdConvertor())
register_url_convertor("item", PlainIdConvertor())


class Body(NamedTuple):
    """`content`: without its coding and without a byte order mark. `received`: bytes on the wire."""

    content: bytes
    received: int


async def read_body(request: Request, *, lines: bool = False, limit: int = MAX_BODY_BYTES) -> Body:
    """The whole body. `lines`: the route takes NDJSON too.

    Errors: `Problem` 415 for another media type, charset or coding; 413 as soon as more than `limit` bytes
    are announced, received or inflated; 400 where the body or its length is malformed, or its start is no
    UTF-8.
    """
    found: dict[bytes, bytes] = {}
    for name, value in request.scope["headers"]:
        if name in _READ:
            found[name] = b"%b, %b" % (found[name], value) if name in found else value
    check_media_type(found.get(_TYPE, b""), request.method, lines=lines)
    coding = found.get(_CODING)
    if coding is not None:
        coding_of(coding)  # before anything is read
    if _LENGTH in found and _content_length(found[_LENGTH]) > limit:
        raise too_large(limit)
    content = await _received(request, limit)
    received = len(content)
    if coding is not None:
        content = inflate(content, coding, limit)
    start = content[:4]
    if not start.isascii() or b"\0" in start:
        content = _without_mark(content)
    return Body(content, received)


async def _received(request: Request, limit: int) -> bytes:
    start, rest = b"", bytearray()
    try:
        async for chunk in request.stream():
            if len(start) + len(rest) + len(chunk) > limit:
                raise too_large(limit)
            if start:
                rest += chunk  # in place: a body may come in a million pieces
            else:
                start = chunk
    except ClientDisconnect:
        raise malformed("cut_short") from None
    return start + rest if rest else start


def _content_length(value: bytes) -> int:
    """Bytes of Content-Length. Errors: `Problem` 400 for no number, or one of more than `MAX_LENGTH_DIGITS`
    digits, leading zeros included: int() takes no text of any length."""
    if len(value) > MAX_LENGTH_DIGITS or not value.isdigit():
        raise malformed_length()
    return int(value)


def _without_mark(content: bytes) -> bytes:
    """The content without the byte order mark of UTF-8.

    Errors: `Problem` 400 where its start is that of UTF-16 or UTF-32, or has their zeros (RFC 4627, 3: JSON
    begins with two characters of ASCII), and no line ends in one byte.
    """
    if content.startswith(codecs.BOM_UTF8):
        return content[len(codecs.BOM_UTF8) :]
    wide = content.startswith(_WIDE_MARKS) or (len(content) % 2 == 0 and _WIDE.match(content))
    if wide and not _PLAIN_LINE_END.search(content):
        raise malformed("not_utf8", UTF8_ONLY)
    return content


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """The decoded body. Errors: those of `parse` and of `check_keys`."""
    value = parse(body, decoder)
    check_keys(body)
    return value


def check_keys(body: bytes | msgspec.Raw, deepest: int = ANY_DEPTH) -> None:
    """Errors: `Rejected` where an object has a key twice, of those that `repeated_key` looks at."""
    # a `Raw` is a class of bytes, whose own bytes lie elsewhere
    found = repeated_key(body if type(body) is bytes else bytes(memoryview(body)), deepest)
    if found is not None:
        raise Rejected(found, "repeated")


def parse(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """The decoded body, of keys that are there twice the last. Errors: `Problem` 400 where it is no JSON,
    `Rejected` where its JSON has another shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise from_validation(error) from None
    except UnicodeDecodeError:
        raise malformed("not_utf8", UTF8_ONLY) from None
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
    """Whether the body, which `read_body` took, is one of lines."""
    return media.is_ndjson(request.headers.get("content-type", "").encode("latin-1"))


def idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else check_id(key, "Idempotency-Key")


def traceparent(request: Request) -> bytes:
    """The header as received (W3C Trace Context); b"" where the request has no valid one, or several."""
    headers = request.scope["headers"]
    return valid_traceparent([value for name, value in headers if name == _TRACEPARENT])
