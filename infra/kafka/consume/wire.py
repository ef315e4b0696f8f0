"""Fetch, packed and read by hand, in the one version that the embedded broker and Apache Kafka 2.7 and newer
know (KIP-595): a broker says in it where a log no longer holds what was read.

https://kafka.apache.org/protocol#The_Messages_Fetch
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from infra.kafka.connection import BrokenConnection

API: Final = 1
VERSION: Final = 12
MAX_BYTES: Final = 52 << 20
"""Of the records in an answer; a first batch that is larger comes all the same."""
MAX_PARTITION_BYTES: Final = 4 << 20
"""Of the records of one partition in an answer, likewise."""
MAX_ANSWER_BYTES: Final = 256 << 20
"""A longer answer is none. Apache Kafka takes batches of 1 MiB unless a topic's configuration says more."""
_NO_REPLICA: Final = -1
_UNCOMMITTED: Final = (
    0  # also records of a transaction that has not ended, as kafka-python by default
)
_NO_SESSION: Final = (0, -1)
_ANY_EPOCH, _NO_START = -1, -1
_HEAD: Final = struct.Struct(">iiiibii")
_CELL: Final = struct.Struct(">iiqiqiB")
_ANSWER: Final = struct.Struct(">ihi")
_ANSWER_CELL: Final = struct.Struct(">ihqqq")
_PLAIN_CELL: Final = struct.Struct(">ihqqqBi")
_ABORTED_BYTES: Final = 16
_REPLICA_BYTES: Final = 4
_DIVERGED: Final = struct.Struct(">iq")
_DIVERGED_TAG: Final = 0
_SHORT: Final = "an answer that is shorter than what it should hold"


class Position(NamedTuple):
    """What is fetched next of a partition. `epoch`: the leader's when the record before was written; -1:
    unknown."""

    partition: int
    offset: int
    epoch: int


class Cell(NamedTuple):
    """A partition of an answer."""

    partition: int
    error: int
    records: memoryview
    """Batches one after the other; the last one may be cut short."""
    diverged: tuple[int, int] | None
    """The log was cut off: the last epoch that both have in common, and where it ends."""


def request(topic: str, positions: Sequence[Position], wait_ms: int) -> bytes:
    """The body of a Fetch that is answered as soon as there is a record, or after `wait_ms`."""
    name = topic.encode()
    parts = [
        _HEAD.pack(_NO_REPLICA, wait_ms, 1, MAX_BYTES, _UNCOMMITTED, *_NO_SESSION),
        _uvarint(2),
        _uvarint(len(name) + 1),
        name,
        _uvarint(len(positions) + 1),
    ]
    for partition, offset, epoch in positions:
        cell = (partition, _ANY_EPOCH, offset, epoch, _NO_START, MAX_PARTITION_BYTES, 0)
        parts.append(_CELL.pack(*cell))
    parts.append(b"\0\1\1\0")  # no tags, nothing to forget, no rack, no tags
    return b"".join(parts)


def answer(frame: bytes | bytearray, at: int, topic: str) -> list[Cell]:
    """The partitions of an answer, each once, from byte `at` of its frame on.

    Errors: `BrokenConnection` for what is no answer to a `request` of `topic`.
    """
    try:
        return _Scanner(frame, at).cells(topic)
    except (struct.error, IndexError):
        raise BrokenConnection(_SHORT) from None


class _Scanner:
    """Errors of every method: `struct.error`, IndexError where the frame is too short; `BrokenConnection`."""

    def __init__(self, frame: bytes | bytearray, at: int) -> None:
        self._frame, self._view, self._at = frame, memoryview(frame), at

    def cells(self, topic: str) -> list[Cell]:
        self._skip_tags()
        _, error, _ = self._unpack(_ANSWER)
        if error:
            raise BrokenConnection(f"the error {error} to a fetch")
        found: dict[int, Cell] = {}
        for _ in range(self._count()):
            name = bytes(self._take(self._count()))
            if name != topic.encode():
                raise BrokenConnection("an answer of another topic")
            for _ in range(self._count()):
                cell = self._cell()
                if cell.partition in found:
                    raise BrokenConnection(f"an answer that has partition {cell.partition} twice")
                found[cell.partition] = cell
            self._skip_tags()
        self._skip_tags()
        if self._at != len(self._frame):
            raise BrokenConnection("an answer that is longer than what it holds")
        return list(found.values())

    def _cell(self) -> Cell:
        """As `_whole_cell`; most have neither aborted transactions nor tags, and are read at once."""
        begin, frame = self._at, self._frame
        partition, error, _, _, _, aborted, _ = _PLAIN_CELL.unpack_from(frame, begin)
        at, size, shift = begin + _PLAIN_CELL.size, 0, 0
        while (byte := frame[at]) > 127 and shift < 28:
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
        start = at + 1
        stop = start + max((size | byte << shift) - 1, 0)
        if aborted > 1 or byte > 127 or frame[stop]:
            return self._whole_cell()
        self._at = stop + 1
        return Cell(partition, error, self._view[start:stop], None)

    def _whole_cell(self) -> Cell:
        partition, error, *_ = self._unpack(_ANSWER_CELL)
        for _ in range(self._count()):
            self._take(_ABORTED_BYTES)
            self._skip_tags()
        self._take(_REPLICA_BYTES)
        records = self._take(self._count())
        diverged = None
        for tag, body in self._tags():
            if tag == _DIVERGED_TAG:
                epoch, end = _DIVERGED.unpack_from(body)
                diverged = (epoch, end) if end >= 0 else None
        return Cell(partition, error, records, diverged)

    def _tags(self) -> list[tuple[int, memoryview]]:
        return [(self._uvarint(), self._take(self._uvarint())) for _ in range(self._uvarint())]

    def _skip_tags(self) -> None:
        if self._frame[self._at]:
            self._tags()
        else:
            self._at += 1

    def _count(self) -> int:
        """Of a compact array, string or bytes; 0 for null."""
        return max(self._uvarint() - 1, 0)

    def _take(self, size: int) -> memoryview:
        start, self._at = self._at, self._at + size
        if self._at > len(self._frame):
            raise BrokenConnection(_SHORT)
        return self._view[start : self._at]

    def _unpack(self, form: struct.Struct) -> tuple[int, ...]:
        found = form.unpack_from(self._frame, self._at)
        self._at += form.size
        return found

    def _uvarint(self) -> int:
        number = shift = 0
        while True:
            byte = self._frame[self._at]
            self._at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 28:
                raise BrokenConnection("an answer with a number of more than five bytes")


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
