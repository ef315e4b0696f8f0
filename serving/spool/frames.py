"""What the spool of the write side holds: records for the log, each with its topic and its partition.

A body, little-endian: time of spooling u8 (ms), partition u2, then the lengths of topic u1, key u2 and
value u4, and the three of them; the rest is its headers, as `schemas.headers.packed` has them. Frames of
before 2026-12 have none, and a Freshet of before then reads no frame that has some.

One record is one frame, so a drain takes as many at once as it likes; the frames of one request are written
by one write and synced together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from schemas.alphabet import Millis
from schemas.headers import packed, unpacked
from schemas.record import Record
from serving.spool.segments import HEAD_BYTES, seal, unseal

_FIXED: Final = struct.Struct("<QHBHI")
MAX_BATCH_RECORDS: Final = 1000
"""Records of one batch to the broker."""
MAX_BATCH_BYTES: Final = 1 << 20
"""And bytes of it, unless one alone has more."""


class Entry(NamedTuple):
    """A record that waits. `at`: since when, Unix time in ms."""

    topic: str
    record: Record
    at: Millis

    @property
    def size(self) -> int:
        """Bytes on disk."""
        key, _, value, headers = self.record
        parts = (self.topic.encode(), key, value, packed(headers))
        return HEAD_BYTES + _FIXED.size + sum(map(len, parts))


class Batch(NamedTuple):
    """Entries in their order, and where the last of them ends in its segment."""

    entries: list[Entry]
    end: int


def encode(topic: str, records: Sequence[Record], at: Millis) -> bytes:
    """The frames of all of them, in order."""
    name = topic.encode()
    return b"".join(
        seal(
            _FIXED.pack(at, record.partition, len(name), len(record.key), len(record.value))
            + name
            + record.key
            + record.value
            + packed(record.headers)
        )
        for record in records
    )


def decode(data: bytes, at: int = 0) -> Iterator[tuple[Entry, int]]:
    """Each entry of `data` from offset `at` on, and where its frame ends; up to the first frame that is
    not whole, or is not one of these.

    >>> data = encode("items", [Record(b"k", 3, b"v"), Record(b"k", 3, b"w")], 7)
    >>> [(entry.topic, entry.record.value, entry.at) for entry, _ in decode(data)]
    [('items', b'v', 7), ('items', b'w', 7)]
    """
    for body, end in unseal(data, at):
        if len(body) < _FIXED.size:
            return
        since, partition, topic, key, value = _FIXED.unpack_from(body)
        first = _FIXED.size + topic
        second, end_of_value = first + key, first + key + value
        if end_of_value > len(body):
            return
        try:
            headers = unpacked(body[end_of_value:])
        except ValueError:
            return
        name = body[_FIXED.size : first].decode()
        record = Record(body[first:second], partition, body[second:end_of_value], headers)
        yield Entry(name, record, since), end


def batches(found: Iterable[tuple[Entry, int]]) -> Iterator[Batch]:
    """At most `MAX_BATCH_RECORDS` entries and `MAX_BATCH_BYTES` at once."""
    held: list[Entry] = []
    size = last = 0
    for entry, end in found:
        more = len(entry.record.value)
        if held and (len(held) >= MAX_BATCH_RECORDS or size + more > MAX_BATCH_BYTES):
            yield Batch(held, last)
            held, size = [], 0
        held.append(entry)
        size, last = size + more, end
    if held:
        yield Batch(held, last)
