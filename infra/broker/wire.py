"""Requests and responses on the wire: header, body, length; the codecs are kafka-python's."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAME_BYTES: Final = 100 << 20  # Kafka's socket.request.max.bytes
NO_TOPIC_ID: Final = uuid.UUID(int=0)
HEADER: Final = struct.Struct(">hhih")


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


def frame_size(prefix: bytes) -> int:
    """Bytes of the frame that follows `prefix`. Errors: `Malformed`, before the frame is read."""
    size: int = struct.unpack(">i", prefix)[0]
    if not HEADER.size <= size <= MAX_FRAME_BYTES:
        raise Malformed("frame size out of range")
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
            at = _skip_tags(frame, at)
        read = codec._struct.compiled_decode_from(
            header.version, compact=flexible, tagged=flexible, data_class=codec[None]
        )  # as `codec.decode`, which does not return the end position
        request, end = read(memoryview(frame), at)
    except (struct.error, ValueError, IndexError, TypeError, OverflowError, MemoryError) as error:
        raise Malformed("request does not decode") from error
    if end > len(frame):
        raise Malformed("request is cut short")
    return request


def encode(response: Any, correlation: int, version: int) -> bytes:
    """The framed response, in `version` of its API."""
    response.API_VERSION = version
    response.with_header(correlation)
    framed: bytes = response.encode(header=True, framed=True)
    return framed


def _skip_tags(frame: bytes, at: int) -> int:
    count, at = _uvarint(frame, at)
    for _ in range(count):
        _, at = _uvarint(frame, at)
        size, at = _uvarint(frame, at)
        at += size
    return at


def _uvarint(frame: bytes, at: int) -> tuple[int, int]:
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
