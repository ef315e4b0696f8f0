"""The frames of the spool of writes: records for the log, each with its topic and its partition.

A body, little-endian: time of spooling u8 (ms), partition u2, then the lengths of topic u1, key u2 and
value u4, then topic, key and value; the rest is the headers, packed by `schemas.headers.packed`. Frames from
before 2026-12 have no headers, and a Freshet from before then reads no frame with headers.

One record is one frame, so a drain may batch any number of them; the frames of one request are written by
one write and synced together.
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
"""Records of one batch."""
MAX_BATCH_BYTES: Final = 1 << 20
"""Bytes of the values of one batch, unless one record alone has more."""


class Entry(NamedTuple):
    """A spooled record. `at`: when it was spooled, Unix time in ms."""

    topic: str
    record: Record
    at: Millis

    @property
    def size(self) -> int:
        """Bytes on disk."""
        key, _, value, headers = self.record
        fields = (self.topic.encode(), key, value, packed(headers))
        return HEAD_BYTES + _FIXED.size + sum(map(len, fields))


class Batch(NamedTuple):
    """Entries in their order. `end`: the offset in the segment at which the last one ends."""

    entries: list[Entry]
    end: int


def encode(topic: str, records: Sequence[Record], at: Millis) -> bytes:
    """The frames of `records`, in order."""
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
    """Each entry of `data` from offset `at` on, and the offset at which its frame ends; stops at the first
    frame that is not whole, or not a record's.

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


def batches(entries: Iterable[tuple[Entry, int]]) -> Iterator[Batch]:
    """Batches of at most `MAX_BATCH_RECORDS` entries and `MAX_BATCH_BYTES`, in order."""
    batch: list[Entry] = []
    size = end_offset = 0
    for entry, end in entries:
        value_bytes = len(entry.record.value)
        if batch and (len(batch) >= MAX_BATCH_RECORDS or size + value_bytes > MAX_BATCH_BYTES):
            yield Batch(batch, end_offset)
            batch, size = [], 0
        batch.append(entry)
        size, end_offset = size + value_bytes, end
    if batch:
        yield Batch(batch, end_offset)
