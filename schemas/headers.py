"""Headers of a record: the schema of its value, and the trace of the request that caused it.

Every record that Freshet writes has ``freshet-schema: event/1``, name and version; a record without it is
older than the headers, and of version 1. ``traceparent`` (W3C Trace Context) is added as it was received,
where the HTTP request had a valid one. A fold reads neither: both are for people and their tools.

`frame` says that a record of `events` or `slates` is a frame: its key is empty, and its value is a JSON array
of what were the values of that many single records of its partition. A record of an array with the offset o
and the index n (from 0) is named (o, n), a single record (o, 0). In an array a record has its trace in a
field `traceparent`. Only what serving writes is framed: served records, and slates.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

Headers = tuple[tuple[str, bytes], ...]
"""(name, value) of each header of a record, in their order."""

SCHEMA: Final = "freshet-schema"
TRACEPARENT: Final = "traceparent"
FRAME: Final = "frame"
"""Header of a frame: the number of its records, in decimal digits. With a key it means nothing."""
MAX_FRAME_BYTES: Final = 256_000
"""Of a frame's value."""
MAX_FRAMED_RECORDS: Final = 2_000
"""Of one frame: no served record is so short that more of them fit."""
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LENGTHS: Final = struct.Struct("<HI")


class Schema(NamedTuple):
    """Schema of the records of a topic. `version` rises where older code would misread a record: a new
    optional field does not raise it."""

    name: str
    version: int

    @property
    def text(self) -> str:
        """The value of the header, as text.

        >>> Schema("event", 1).text
        'event/1'
        """
        return f"{self.name}/{self.version}"

    @property
    def headers(self) -> Headers:
        """The headers of a record that no request caused.

        >>> Schema("event", 1).headers
        (('freshet-schema', b'event/1'),)
        """
        return _schema_headers(self)


@lru_cache(maxsize=64)
def _schema_headers(schema: Schema) -> Headers:
    return ((SCHEMA, schema.text.encode()),)


def traced(headers: Headers, traceparent: bytes) -> Headers:
    """`headers`, and the trace where there is one: b"" is none."""
    return (*headers, (TRACEPARENT, traceparent)) if traceparent else headers


def without(headers: Sequence[tuple[str, bytes | None]], name: str) -> tuple[tuple[str, Any], ...]:
    """`headers` but for those called `name`.

    >>> without((("a", b"1"), ("frame", b"2")), FRAME)
    (('a', b'1'),)
    """
    return tuple([it for it in headers if it[0] != name])


def valid_traceparent(values: Sequence[bytes | None]) -> bytes:
    """The only value, if it is a `traceparent` of version 00 whose ids are not all zeros; else b"".
    An invalid value is no trace, never an error.

    Source: W3C Trace Context, https://www.w3.org/TR/trace-context/#traceparent-header

    >>> valid_traceparent([b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])[:11]
    b'00-4bf92f35'
    >>> valid_traceparent([b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"])
    b''
    """
    value = values[0] if len(values) == 1 else None
    return value if value and _TRACEPARENT.fullmatch(value) else b""


@lru_cache(maxsize=256)
def packed(headers: Headers) -> bytes:
    """The bytes that a spool keeps: per header, little-endian, length of the name u2, of the value u4, both.

    Errors: `struct.error` for a name of more than 65,535 bytes.

    >>> unpacked(packed(Schema("item", 1).headers)) == Schema("item", 1).headers
    True
    """
    return b"".join(
        _LENGTHS.pack(len(name.encode()), len(value)) + name.encode() + value
        for name, value in headers
    )


@lru_cache(maxsize=256)
def unpacked(block: bytes) -> Headers:
    """The headers in `block`, as `packed` makes it. Errors: ValueError for other bytes."""
    headers, offset = [], 0
    while offset < len(block):
        if len(block) - offset < _LENGTHS.size:
            raise ValueError("headers end within a length")
        name, value = _LENGTHS.unpack_from(block, offset)
        start = offset + _LENGTHS.size
        offset = start + name + value
        if offset > len(block):
            raise ValueError("headers end within one")
        headers.append((block[start : start + name].decode(), block[start + name : offset]))
    return tuple(headers)
