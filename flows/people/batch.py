"""A read of several partitions between the steps, and what the fold of it collects of each.

A read is one batch of columns: the records that one fetch brought, partition by partition, each partition's
in the order of its log. A `Span` says which rows of the columns are whose. No step walks over the records:
objects are made of those alone that need one (`RecordColumns.event`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from flows.people.rows import Fetch
from models.arrays import I64, U64, Mask
from models.dedupe import Deduper, fresh_of_all
from models.records import RecordColumns, of_events
from schemas import events
from schemas.actions import CODE
from schemas.events import Merge
from schemas.state import facts
from schemas.state.write import Write
from schemas.times import DAY_MS

MAX_CACHED_HASHES: Final = 16_384
"""Some 130 B each. Ids that no item has come once each, and hashing one anew takes half a microsecond."""
Record = tuple[int, int, events.Event]
"""(offset, record time, event)."""
PURCHASED: Final = CODE["purchase"]


class Hashes(dict[str, int]):
    """id -> hash(id), cached; empties itself at `MAX_CACHED_HASHES`."""

    def __init__(self, hash_: Any) -> None:
        super().__init__()
        self._hash = hash_

    def __missing__(self, key: str) -> int:
        if len(self) >= MAX_CACHED_HASHES:
            self.clear()
        self[key] = value = self._hash(key)
        return int(value)


@dataclass
class Span:
    """The records of one partition in a read: rows `start` to `stop` - 1 of its columns.

    `first`, `next`: the first offset of the partition's batch and the one after its last (law 9).
    """

    partition: int
    first: int
    next: int
    start: int
    stop: int
    ids: dict[int, U64] = field(default_factory=dict)
    """Hashes of new event ids, by bucket of the de-duplication window."""
    expired: list[int] = field(default_factory=list)
    """Buckets that left the window."""
    days: facts.Days = facts.NO_DAYS
    """The records at which the partition's newest record time came into another UTC day."""

    repeated: list[Record] = field(default_factory=list)
    """The dropped purchases that name a slate."""


@dataclass
class Decoded:
    """The decoded records of one read: n rows, and a span a partition, which lie side by side."""

    columns: RecordColumns
    offsets: I64
    """(n,) in the log of their partition. Those of one frame have one offset."""
    spans: list[Span]
    indexes: I64 | None = None
    """(n,) in their frame; None: no record came in one."""
    times: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(n,) record times, ms; by default those that bounded the times in the records (law 14)."""
    dropped: Decoded | None = None
    """What de-duplication dropped, None: nothing. It has the same spans."""

    def __post_init__(self) -> None:
        if not len(self.times):
            self.times = self.columns.timestamp

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def records(self) -> list[Record]:
        """All of them, with their events."""
        return self.at(np.arange(len(self)))

    def at(self, rows: I64) -> list[Record]:
        """The records at these rows, with their events."""
        made = map(self.columns.event, rows.tolist())
        offsets, times = self.offsets[rows].tolist(), self.times[rows].tolist()
        return list(zip(offsets, times, made, strict=True))

    def where(self, mask: Mask) -> Decoded:
        """The records under `mask` (n,), of the same spans; without those that were dropped."""
        before = np.append(0, np.cumsum(mask)).tolist()
        spans = [
            replace(span, start=before[span.start], stop=before[span.stop]) for span in self.spans
        ]
        indexes = self.indexes[mask] if self.indexes is not None else None
        columns, times = self.columns.take(mask), self.times[mask]
        return Decoded(columns, self.offsets[mask], spans, indexes, times)

    def without(self, partitions: Iterable[int]) -> Decoded:
        """The read without these partitions."""
        gone = set(partitions)
        mask = np.ones(len(self), np.bool_)
        for span in self.spans:
            mask[span.start : span.stop] = span.partition not in gone
        rest = self.where(mask)
        rest.spans = [span for span in rest.spans if span.partition not in gone]
        rest.dropped = self.dropped.without(gone) if self.dropped is not None else None
        return rest


def read_of(partition: int, first: int, next_: int, records: Sequence[Record]) -> Decoded:
    """A read of one partition, of events that were made before."""
    columns = of_events([event for _, _, event in records], [time for _, time, _ in records])
    return read_of_columns(partition, first, next_, columns, [offset for offset, _, _ in records])


def read_of_columns(
    partition: int, first: int, next_: int, columns: RecordColumns, places: Sequence[int]
) -> Decoded:
    """A read of one partition; `places` (n,): the offsets of the records, those of a frame in its order."""
    offsets, indexes = np.array(places, np.int64), None
    if len(offsets) and (np.diff(offsets) == 0).any():
        begins = np.flatnonzero(np.diff(offsets, prepend=-1))
        indexes = np.arange(len(offsets)) - begins.repeat(np.diff(begins, append=len(offsets)))
    return Decoded(columns, offsets, [Span(partition, first, next_, 0, len(offsets))], indexes)


def deduped(batch: Decoded, dedupers: Sequence[Deduper]) -> Decoded:
    """The read without the records that were folded before (law 12), which it keeps as `dropped`. Merges and
    listed items stay: they have no such id. `dedupers`: one a span."""
    if not batch.spans:
        return batch
    before = [it.newest for it in dedupers]
    stops = [it.stop for it in batch.spans]
    mask, found = fresh_of_all(dedupers, stops, batch.columns.id, batch.times)
    for span, deduper, newest, its in zip(batch.spans, dedupers, before, found, strict=True):
        span.ids, span.expired = its
        if deduper.newest // DAY_MS > newest // DAY_MS:
            span.days = days_of(batch, span, batch.times[span.start : span.stop], newest)
    if b"\0" not in mask.tobytes():
        return batch
    fresh_ones = batch.where(mask)
    fresh_ones.dropped = batch.where(~mask)
    return fresh_ones


def days_of(batch: Decoded, span: Span, times: I64, newest: int) -> facts.Days:
    """The new UTC days of the newest record time; `newest`: before the batch, ms."""
    if not len(times) or int(times.max()) // DAY_MS <= newest // DAY_MS:
        return facts.NO_DAYS
    days = np.maximum.accumulate(np.append(newest, times)) // DAY_MS
    at = np.flatnonzero(np.diff(days))
    delta = batch.offsets[span.start + at] - span.first
    return facts.Days(delta.astype(np.uint32), days[at + 1].astype(np.uint16))


class Effects:
    """What the fold of one partition's span of a read collects. Its records are named by their offsets: none
    of those that are so named comes in a frame."""

    def __init__(self, write: Write, offsets: I64, names: U64) -> None:
        """`offsets`, `names` (n,): of the span's records (`Decoded.offsets`, `RecordColumns.name`)."""
        self.write, self._offsets, self._names = write, offsets, names
        self.indexes: dict[int, int] = {}
        """By `id` of an event, the index of its record in a frame, if above 0: a merge that is sent for it
        has n = 1 + its index."""
        self.outgoing: dict[tuple[int, int], Merge] = {}
        """Merges for other partitions, by (offset, n)."""
        self.new_merges: set[int] = set()
        """Offsets of the merges that were not received before."""
        self.tallies: dict[str, int] = {}
        """How many records of this batch were accepted and are not counted, by reason."""
        self.unlinked: dict[str, int] = {}
        """Person -> offset of the last record of the batch that ended a link of theirs."""
        self.cleared: set[bytes] = set()
        """Keys whose stored value counts no more, since their person was unlinked in this batch."""
        self.counted: set[int] = set()
        """Offsets of the purchases and likes that made a fact."""
        self.taken_back: list[tuple[int, str, int, int, int]] = []
        """(offset, person, identity, item, at) of actions that were taken back: their list marks them."""
        self.copies: set[int] = set()
        """Offsets of actions that their person's list held already."""
        self.not_entered: set[tuple[int, int, int]] = set()
        """(offset, identity, item) of actions that can be taken back and did not enter their person's list:
        it held them already, or they came late."""
        self.dirty: set[int] = set()
        """Slots of rows that changed, but for those that acted."""
        self.recent_changed: set[int] = set()
        """Slots of rows whose list of recent actions changed, but for those that acted."""
        self._chunks: list[facts.Actions | facts.PackedActions] = []

    @cached_property
    def identity(self) -> dict[int, int]:
        """By offset the identity of an action in lists: the low half of its name's hash, at least 1."""
        identities = np.maximum(self._names.astype(np.uint32), 1)
        return dict(zip(self._offsets.tolist(), identities.tolist(), strict=True))

    def tally(self, reason: str, n: int = 1) -> None:
        """Notes that `n` records were accepted and are not counted, for a reason: one word or several joined
        by "_". The totals of the partition are stored (`schemas.keys`, ``n:{p}``)."""
        self.tallies[reason] = self.tallies.get(reason, 0) + n

    def send(self, merge: Merge) -> None:
        self.outgoing[merge.offset, merge.n] = merge

    def clear(self, key: bytes) -> None:
        """Forgets the value of `key`: the stored one, and what this batch wrote so far."""
        self.write.values.pop(key, None)
        self.write.appends.pop(key, None)
        self.cleared.add(key)

    def appended(self, key: bytes, fetch: Fetch) -> bytes:
        """The string under `key` as of this record."""
        stored = self.write.values.get(key)
        if stored is None and key not in self.cleared:
            stored = fetch([key])[0]
        return (stored or b"") + self.write.appends.get(key, b"")

    def settle_cleared(self) -> None:
        """Has the write replace the cleared keys that were written later, and delete the others."""
        write = self.write
        for key in sorted(self.cleared):
            if key in write.appends:
                write.values[key] = write.values.get(key, b"") + write.appends.pop(key)
            elif key not in write.values and key not in write.deleted:
                write.deleted.append(key)

    def add_back(self, offset: int, item: int, time_s: int, action: int) -> None:
        """Adds a fact that takes back an earlier one, of the same item, time and action."""
        self._chunks.append(
            facts.Actions(
                np.array([offset - self.write.first], np.uint32),
                np.array([item], np.uint64),
                np.array([time_s], np.uint32),
                np.array([action], np.uint8),
                np.array([facts.BACK], np.uint8),
                np.zeros(1, np.uint8),
                facts.NO_ACTIONS.partner,
                facts.NO_ACTIONS.lag,
            )
        )

    def add(self, found: facts.PackedActions) -> None:
        """Adds facts, in the order of the log."""
        self._chunks.append(found)

    def facts(self) -> facts.Actions | facts.PackedActions:
        """All facts, in the order of the log."""
        if len(self._chunks) == 1:
            return self._chunks[0]
        if not self._chunks:
            return facts.NO_ACTIONS
        made = [it if isinstance(it, facts.Actions) else it.whole() for it in self._chunks]
        joined = [np.concatenate(column) for column in zip(*made, strict=True)]
        return facts.chosen(facts.Actions(*joined), np.argsort(joined[0], kind="stable"))
