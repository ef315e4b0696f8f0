"""One partition's records in memory: packed events, and columns of what is asked of them often.

A block is the JSON of its events, one a line, under Zstandard (some 40 B an event where an object is 590 B),
beside a row of `ROW` an event (34 B). Events are made of it again when they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, overload

import numpy as np
import xxhash
import zstandard
from numpy.typing import NDArray

from flows.people.batch import Hashes, Record
from models.arrays import I64, Mask
from schemas import events
from schemas.actions import code_of
from schemas.events import Action, Event, Served
from schemas.identity import item_hash

RECORDS_PER_BLOCK: Final = 2_000
"""Of a full block: what reading one record decodes."""
NO_ACTION: Final = 255
"""`action` of the row of any other event; its `item` is 0."""
IN_CATALOGUE: Final = 1
"""Bit of `flags`: the edge knew the item of the action."""
OF_SLATE: Final = 2
"""Bit of `flags`: the action names a slate."""
IN_EXPERIMENT: Final = 4
"""Bit of `flags`: a slate in which an experiment took part (`Served.experiments`)."""
ROW: Final = np.dtype(
    [
        ("offset", "<i8"),
        ("time", "<i8"),
        ("person", "<u8"),
        ("item", "<u8"),
        ("action", "u1"),
        ("flags", "u1"),
    ]
)
"""`time`: ms, when an action occurred, else the record time. `person`: `person_hash`. `item`: `item_hash`.
`action`: its code."""
_LEVEL: Final = 3
_xxh: Final = xxhash.xxh3_64_intdigest


def person_hash(person: str) -> int:
    """64 bits of a pseudonym; that of two people is the same with odds of n^2 / 2^65 for n people."""
    return int(_xxh(person.encode()))


Value = tuple[int, int, bytes]
"""(offset, record time, JSON of the event)."""


class PackedBlock(NamedTuple):
    """`packed`: record times (i8, ms) and events of `size` records. `kept`: the numbers of those that the
    partition has, None for all. `rows`: of those."""

    packed: bytes
    size: int
    kept: NDArray[np.uint32] | None
    rows: NDArray[np.void]

    def records(self) -> list[Record]:
        data = zstandard.decompress(self.packed)
        times = np.frombuffer(data, "<i8", self.size).tolist()
        found = events.DECODER.decode_lines(memoryview(data)[8 * self.size :])
        if self.kept is not None:
            numbers = self.kept.tolist()
            times, found = [times[n] for n in numbers], [found[n] for n in numbers]
        return list(zip(self.rows["offset"].tolist(), times, found, strict=True))

    def values(self) -> list[Value]:
        """The records as JSON, which `schemas.events` decodes."""
        data = zstandard.decompress(self.packed)
        times = np.frombuffer(data, "<i8", self.size).tolist()
        lines = data[8 * self.size :].split(b"\n")
        if self.kept is not None:
            numbers = self.kept.tolist()
            times, lines = [times[n] for n in numbers], [lines[n] for n in numbers]
        return list(zip(self.rows["offset"].tolist(), times, lines[: len(times)], strict=True))

    def where(self, mask: Mask) -> PackedBlock:
        kept = np.arange(self.size, dtype=np.uint32) if self.kept is None else self.kept
        return PackedBlock(self.packed, self.size, kept[mask], self.rows[mask])


class Records(Sequence[Record]):
    """A partition's records (offset, record time, event), by offset. A slice is `Records`, too, and shares
    the memory. An event that is read is a new object: to change it changes nothing here."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._blocks: list[PackedBlock] = []
        self._stops: list[int] = [0]  # of each block, in records; the first is none's
        self._tail: list[Record] = []  # the newest, not packed yet
        self._items = Hashes(item_hash)
        self._read: tuple[int, list[Record]] = (-1, [])  # the block read last
        self._read_values: tuple[int, list[Value]] = (-1, [])
        self.extend(records)

    def append(self, record: Record) -> None:
        self._tail.append(record)
        if len(self._tail) >= RECORDS_PER_BLOCK:
            self._pack()

    def extend(self, records: Iterable[Record]) -> None:
        for record in records:
            self.append(record)

    def __len__(self) -> int:
        return self._stops[-1] + len(self._tail)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Records: ...
    def __getitem__(self, at: int | slice) -> Record | Records:
        if isinstance(at, int):
            n = range(len(self))[at]
            return self.between(n, n + 1)[0]
        mask = np.zeros(len(self), np.bool_)
        mask[at] = True
        return self.where(mask)

    def __iter__(self) -> Iterator[Record]:
        for n, (start, stop) in enumerate(pairwise(self._stops)):
            yield from self._decoded(n)[: stop - start]
        yield from list(self._tail)

    def between(self, first: int, end: int) -> list[Record]:
        """The records number `first` to `end` - 1."""
        self._pack()
        found: list[Record] = []
        n = int(np.searchsorted(self._stops, first, "right")) - 1
        while n < len(self._blocks) and self._stops[n] < end:
            start = self._stops[n]
            found += self._decoded(n)[max(first - start, 0) : end - start]
            n += 1
        return found

    def values_between(self, first: int, end: int) -> list[Value]:
        """The same as JSON."""
        self._pack()
        found: list[Value] = []
        n = int(np.searchsorted(self._stops, first, "right")) - 1
        while n < len(self._blocks) and self._stops[n] < end:
            start = self._stops[n]
            if self._read_values[0] != n:
                self._read_values = n, self._blocks[n].values()
            found += self._read_values[1][max(first - start, 0) : end - start]
            n += 1
        return found

    def where(self, mask: Mask) -> Records:
        """The records under `mask` (n,)."""
        self._pack()
        chosen = Records()
        for block, (start, stop) in zip(self._blocks, pairwise(self._stops), strict=True):
            mine = mask[start:stop]
            if mine.any():
                chosen._add(block if mine.all() else block.where(mine))
        return chosen

    def rows(self) -> NDArray[np.void]:
        """(n,) the rows of all records; a copy."""
        self._pack()
        return np.concatenate([np.empty(0, ROW), *(block.rows for block in self._blocks)])

    def column(self, name: str) -> NDArray[Any]:
        """(n,) one column of `rows`."""
        self._pack()
        nothing = np.empty(0, ROW)[name]
        return np.concatenate([nothing, *(block.rows[name] for block in self._blocks)])

    @property
    def nbytes(self) -> int:
        """What the records hold, without the newest that are not packed yet."""
        return sum(len(block.packed) + block.rows.nbytes for block in self._blocks)

    @property
    def next(self) -> int:
        """The offset after the last record; 0 where there is none."""
        self._pack()
        return int(self._blocks[-1].rows["offset"][-1]) + 1 if self._blocks else 0

    def at_offsets(self, offsets: I64) -> I64:
        """(k,) how many records lie before each of `offsets`."""
        found: I64 = np.searchsorted(self.column("offset"), offsets).astype(np.int64)
        return found

    def _decoded(self, block: int) -> list[Record]:
        if self._read[0] != block:
            self._read = block, self._blocks[block].records()
        return self._read[1]

    def _pack(self) -> None:
        if self._tail:
            records, self._tail = self._tail, []
            times = np.array([time for _, time, _ in records], "<i8").tobytes()
            data = times + events.ENCODER.encode_lines([event for _, _, event in records])
            rows = np.array([self._row(*record) for record in records], ROW)
            packed = memoryview(zstandard.compress(data, _LEVEL))
            # a copy: what the compressor returns was made larger and cut, which leaves holes in the heap
            self._add(PackedBlock(bytes(packed), len(records), None, rows))

    def _add(self, block: PackedBlock) -> None:
        self._blocks.append(block)
        self._stops.append(self._stops[-1] + len(block.rows))

    def _row(self, offset: int, time: int, event: Event) -> tuple[int, int, int, int, int, int]:
        person = person_hash(event.person)
        if not isinstance(event, Action):
            experiment = isinstance(event, Served) and bool(event.experiments)
            return offset, time, person, 0, NO_ACTION, IN_EXPERIMENT * experiment
        action, item = code_of(event.action, event.negative), self._items[event.item_id]
        flags = IN_CATALOGUE * event.known | OF_SLATE * bool(event.slate_id)
        return offset, event.occurred_at, person, item, action, flags


def recorded(records: Sequence[Record]) -> Records:
    """`records` as `Records`."""
    return records if isinstance(records, Records) else Records(records)
