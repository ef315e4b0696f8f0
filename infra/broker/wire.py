"""Requests and responses on the wire: header, body, length; the codecs are kafka-python's."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAME_BYTES: Final = 100 << 20  # Kafka's socket.request.max.bytes
MAX_PLAIN_FRAME_BYTES: Final = 1 << 20
"""Of a request without records."""
MAX_ELEMENTS: Final = 10_000
"""In all arrays of a request together: it is answered in one turn of the loop, so it delays all clients."""
PREFIX_BYTES: Final = 4
KEY_BYTES: Final = 2
PRODUCE: Final = 0
NO_TOPIC_ID: Final = uuid.UUID(int=0)
HEADER: Final = struct.Struct(">hhih")
_PREFIX: Final = struct.Struct(">i")
_PRODUCE: Final = PRODUCE.to_bytes(2, "big")


class Malformed(Exception):
    """The bytes are no request of this protocol: the connection is closed, as Kafka does."""


@dataclass(slots=True)
class Call:
    """One request, with the facts of its connection that handlers need."""

    request: Any
    version: int
    client: str
    host: str  # the peer's address
    advertised: tuple[str, int]  # the broker's address for this peer


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """The request header; `body` is the request's position in its frame."""

    api: int
    version: int
    correlation: int
    client: str
    body: int


def frame_size(data: bytes | bytearray) -> int:
    """Bytes of the frame behind the first 4 of `data`. Errors: `Malformed`, before the frame is read."""
    size: int = _PREFIX.unpack_from(data)[0]
    if not HEADER.size <= size <= MAX_FRAME_BYTES:
        raise Malformed("frame size out of range")
    if size > MAX_PLAIN_FRAME_BYTES and len(data) >= 6 and data[4:6] != _PRODUCE:
        raise Malformed("a request without records is too large")
    return size


def request_header(frame: bytes) -> RequestHeader:
    """The fields that all header versions share. Errors: `Malformed`."""
    api, version, correlation, length = HEADER.unpack_from(frame)
    body = HEADER.size + max(length, 0)
    if body > len(frame):
        raise Malformed("client id longer than its frame")
    client = frame[HEADER.size : body].decode("utf-8", "replace")
    return RequestHeader(api, version, correlation, client, body)


def decode(codec: Any, header: RequestHeader, frame: bytes) -> Any:
    """The request of class `codec`. Errors: `Malformed`."""
    at = header.body
    flexible = codec.flexible_version_q(header.version)
    try:
        if flexible:
            at = skip_tags(frame, at)
        read = codec._struct.compiled_decode_from(
            header.version, compact=flexible, tagged=flexible, data_class=codec[None]
        )  # as `codec.decode`, which does not return the end position
        # the generated code counts each array's elements off by `range`: ours counts them all
        read.__globals__["range"] = _Counted().range
        request, end = read(memoryview(frame), at)
    except (struct.error, ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise Malformed("request does not decode") from error
    if end > len(frame):
        raise Malformed("request is cut short")
    return request


class _Counted:
    """Counts the elements of a request's arrays down."""

    def __init__(self) -> None:
        self._room = MAX_ELEMENTS

    def range(self, count: int) -> range:
        """Errors: ValueError where the request has more than `MAX_ELEMENTS`."""
        self._room -= max(count, 0)
        if self._room < 0:
            raise ValueError("more elements than a request may have")
        return range(count)


def encode(response: Any, correlation: int, version: int) -> bytes:
    """The framed response, in `version` of its API."""
    response.API_VERSION = version
    response.with_header(correlation)
    framed: bytes = response.encode(header=True, framed=True)
    return framed


def skip_tags(frame: bytes, at: int) -> int:
    """The byte behind the tagged fields at `at`. Errors: IndexError, ValueError."""
    count, at = uvarint(frame, at)
    for _ in _Counted().range(count):
        _, at = uvarint(frame, at)
        size, at = uvarint(frame, at)
        at += size
    return at


def uvarint(frame: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and the byte behind it. Errors: IndexError, ValueError."""
    value = shift = 0
    while True:
        byte = frame[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 35:
            raise ValueError


def packed_uvarint(number: int) -> bytes:
    """The inverse of `uvarint`."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
