"""Headers of a record as Kafka encodes them in a batch.

A header is, `v` a varint: v length of the name, name, v length of the value (-1: None), value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from kafka.record.util import decode_varint

from infra.log_reader import Headers

MAX_CACHED_BYTES: Final = 64
"""Up to so many bytes a decoded block is cached: a schema alone fits, a trace, which few records share, does
not."""


def past_headers(data: bytes, at: int, count: int) -> int:
    """The byte behind the `count` headers that begin at byte `at`. Errors: IndexError, ValueError."""
    for _ in range(count):
        size, at = decode_varint(data, at)
        if size < 0:
            raise ValueError("a header without a name")
        size, at = decode_varint(data, at + size)
        at += max(size, 0)
    return at


def block_of(counted: bytes) -> bytes:
    """The headers of a record, `counted` being their number and they: all that a record has behind its value.

    Errors: IndexError, ValueError where that is not so.

    >>> block_of(b"\x02\x04ab\x02v")
    b'\\x04ab\\x02v'
    """
    if len(counted) <= MAX_CACHED_BYTES:
        return _cached_block(counted)
    return _block(counted)


@lru_cache(maxsize=256)
def _cached_block(counted: bytes) -> bytes:
    return _block(counted)


def _block(counted: bytes) -> bytes:
    count, at = decode_varint(counted)
    if count < 0 or past_headers(counted, at, count) != len(counted):
        raise ValueError("headers that are not what their number says")
    return counted[at:]


# headers without a trace are the same bytes in every record of a schema
@lru_cache(maxsize=256)
def _cached(block: bytes) -> Headers:
    return _read(block)


def unpacked(block: bytes) -> Headers:
    """All headers in `block`, as `past_headers` delimits it. What is no UTF-8 in a name becomes U+FFFD.

    >>> unpacked(b"\x04ab\x02v")
    (('ab', b'v'),)
    """
    return _cached(block) if len(block) <= MAX_CACHED_BYTES else _read(block)


def _read(block: bytes) -> Headers:
    found: list[Any] = []
    at = 0
    while at < len(block):
        name, at = sized(block, at)
        value, at = sized(block, at)
        found.append(((name or b"").decode(errors="replace"), value))
    return tuple(found)


def sized(block: bytes, at: int) -> tuple[bytes | None, int]:
    """The bytes that follow a length (None for a negative one), and the byte behind them. Errors: IndexError,
    ValueError."""
    if block[at] < 128:  # nearly always: one byte, and quicker so
        size, at = block[at] >> 1 if not block[at] & 1 else -1, at + 1
    else:
        size, at = decode_varint(block, at)
    return (None, at) if size < 0 else (block[at : at + size], at + size)
