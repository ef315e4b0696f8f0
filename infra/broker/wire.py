"""Requests and responses on the wire: header, body, length; the codecs are kafka-python's."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAME: Final = 100 << 20  # bytes, Kafka's socket.request.max.bytes
NO_ID: Final = uuid.UUID(int=0)
HEAD: Final = struct.Struct(">hhih")


class Malformed(Exception):
    """Not a request of this protocol: the connection is closed, as Kafka does."""


@dataclass(slots=True)
class Call:
    """One request with what a handler may need of its connection."""

    request: Any
    version: int
    client: str
    host: str  # the peer's address
    advertised: tuple[str, int]  # where this peer reaches the broker


@dataclass(frozen=True, slots=True)
class Head:
    """The request header; `body` is where the request begins in its frame."""

    api: int
    version: int
    correlation: int
    client: str
    body: int


def frame_size(prefix: bytes) -> int:
    """Bytes that follow. Errors: `Malformed` before anything is read that is not a request."""
    size: int = struct.unpack(">i", prefix)[0]
    if not HEAD.size <= size <= MAX_FRAME:
        raise Malformed("frame size out of range")
    return size


def head_of(frame: bytes) -> Head:
    """The fields that all header versions share. Errors: `Malformed`."""
    api, version, correlation, length = HEAD.unpack_from(frame)
    body = HEAD.size + max(length, 0)
    if body > len(frame):
        raise Malformed("client id longer than its frame")
    client = frame[HEAD.size : body].decode("utf-8", "replace")
    return Head(api, version, correlation, client, body)


def decode(codec: Any, head: Head, frame: bytes) -> Any:
    """The request of class `codec`. Errors: `Malformed`."""
    at = head.body
    flexible = codec.flexible_version_q(head.version)
    try:
        if flexible:
            at = _skip_tags(frame, at)
        read = codec._struct.compiled_decode_from(
            head.version, compact=flexible, tagged=flexible, data_class=codec[None]
        )  # what `codec.decode` calls, but it does not tell how far it read
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
