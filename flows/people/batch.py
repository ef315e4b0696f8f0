"""A batch of one partition between the steps, and what its fold collects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flows.people.rows import Fetch
from models.dedupe import Deduper, identities
from models.features import window
from models.features.columns import Columns, Folded
from models.features.overflow import OVER_DAILY_CAP, OVER_DAILY_LIMIT
from schemas import events
from schemas.actions import REVERSIBLE
from schemas.events import Action, Link, Listed, Merge, Unlink
from schemas.state import facts
from schemas.state.write import Write
from schemas.times import DAY_MS

MAX_CACHED_HASHES: Final = 16_384
"""Some 130 B each. Ids that no item has come once each, and hashing one anew takes half a microsecond."""
Record = tuple[int, int, events.Event]
"""(offset, record time, event)."""


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
class Decoded:
    """The decoded events of one batch. `first`, `next`: its first offset and the one after its last."""

    partition: int
    first: int
    next: int
    records: list[Record]
    timestamps: list[int]
    """Record times of all records, dead letters included, ms."""
    identities: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """(next - first,) by offset the hash of a record's name without its person (`models.dedupe`)."""
    ids: dict[int, NDArray[np.uint64]] = field(default_factory=dict)
    """Hashes of new event ids, by bucket of the de-duplication window."""
    expired: list[int] = field(default_factory=list)
    """Buckets that left the window."""
    days: facts.Days = facts.NO_DAYS
    """The records at which the partition's newest record time came into another UTC day."""
    dropped: list[Record] = field(default_factory=list)
    """The records that de-duplication dropped, in the order of the log."""
    indexes: dict[int, int] = field(default_factory=dict)
    """By `id` of an event, the index of its record in a frame; without those of index 0."""

    @property
    def repeated(self) -> list[Record]:
        """The dropped purchases that name a slate: one of them may attribute a purchase that counted."""
        return [
            record
            for record in self.dropped
            if isinstance(e := record[2], Action)
            and e.slate_id
            and e.action == "purchase"
            and not e.negative
        ]


def deduped(batch: Decoded, deduper: Deduper) -> Decoded:
    """The batch without the records that were folded before (law 12), which it keeps as `dropped`. Merges and
    listed items stay: they have no such id."""
    names, ids = identities([e for _, _, e in batch.records])
    offsets = np.array([offset for offset, _, _ in batch.records], np.int64)
    batch.identities = np.zeros(batch.next - batch.first, np.uint64)
    batch.identities[offsets - batch.first] = names
    times = np.array([timestamp for _, timestamp, _ in batch.records], np.int64)
    batch.days = days_of(batch, times, deduper.newest)
    fresh, batch.ids, batch.expired = deduper.fresh(ids, times)
    if not fresh.all():
        batch.dropped = [batch.records[n] for n in np.flatnonzero(~fresh).tolist()]
        batch.records = [r for r, new in zip(batch.records, fresh.tolist(), strict=True) if new]
    return batch


def days_of(batch: Decoded, times: NDArray[np.int64], newest: int) -> facts.Days:
    """The new UTC days of the newest record time; `newest`: before the batch, ms."""
    days = np.maximum.accumulate(np.append(newest, times)) // DAY_MS
    at = np.flatnonzero(np.diff(days))
    delta = [batch.records[i][0] - batch.first for i in at.tolist()]
    return facts.Days(np.array(delta, np.uint32), days[at + 1].astype(np.uint16))


def listings_of(batch: Decoded, new_merges: set[int]) -> facts.Listings:
    """The items that the roll-up's marks list, and those whose actions an id that was linked took back: its
    own partition has the facts of them."""
    listed = [
        (offset - batch.first, item)
        for offset, _, event in batch.records
        for item in _listed_by(event, offset in new_merges)
    ]
    if not listed:
        return facts.NO_LISTINGS
    delta, item = zip(*listed, strict=True)
    return facts.Listings(np.array(delta, np.uint32), np.array(item, np.uint64))


def _listed_by(event: Any, new: bool) -> tuple[int, ...]:
    if isinstance(event, Listed):
        return event.items
    reversal = event.reversal if isinstance(event, Merge) and new else None
    return (reversal.item,) if reversal is not None and reversal.known else ()


class Effects:
    """What the fold of one batch collects. `dirty`: slots of rows that changed; `recent_changed`: slots of
    rows whose list of recent actions changed."""

    def __init__(self, write: Write, first: int, identities: NDArray[np.uint64]) -> None:
        """`identities`: as of the batch (`Decoded`)."""
        self.write, self._first = write, first
        self._identities = np.maximum(identities.astype(np.uint32), 1)  # the low halves
        self.indexes: dict[int, int] = {}
        """As of the batch (`Decoded`): a merge that is sent for a record in a frame has n = 1 + its index."""
        self.dirty: set[int] = set()
        self.recent_changed: set[int] = set()
        self.outgoing: dict[tuple[int, int], Merge] = {}
        """Merges for other partitions, by (offset, n)."""
        self.new_merges: set[int] = set()
        """Offsets of the merges that were not received before."""
        self.tallies: Counter[str] = Counter()
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
        self._chunks: list[tuple[NDArray[Any], ...]] = []

    def identities(self, offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
        """(n,) the low halves of the identities of these actions, at least 1."""
        return self._identities[offsets - self._first]

    @cached_property
    def identity(self) -> dict[int, int]:
        """By offset."""
        return dict(enumerate(self._identities.tolist(), self._first))

    def tally(self, reason: str, n: int = 1) -> None:
        """Notes that `n` records were accepted and are not counted, for a reason: one word or several joined
        by "_". The totals of the partition are stored (`schemas.keys`, ``n:{p}``)."""
        self.tallies[reason] += n

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
            (
                np.array([offset], np.int64),
                np.array([item], np.uint64),
                np.array([time_s], np.int64),
                np.array([action], np.uint8),
                np.array([facts.BACK], np.uint8),
                np.zeros((1, window.MAX_LAG), np.uint64),
                np.zeros(1, np.int64),
            )
        )

    def add(self, columns: Columns, folded: Folded) -> None:
        """Adds facts of the actions, at most 3 of a person, item and UTC day."""
        counts = np.ones(len(columns), np.bool_)
        partners = np.zeros((len(columns), window.MAX_LAG), np.uint64)
        reach = np.zeros(len(columns), np.int64)
        if len(folded.recent):
            counts[folded.entered] = folded.counts
            partners[folded.entered] = folded.partners
            reach[folded.entered] = folded.reach
            self._tally_capped(folded)
        reversible = counts & REVERSIBLE[columns.action]
        if reversible.any():
            self.counted.update(columns.offset[reversible].tolist())
        self._chunks.append(
            (
                columns.offset[counts],
                columns.item[counts],
                columns.time[counts] // 1000,
                columns.action[counts],
                columns.flags[counts],
                partners[counts],
                reach[counts],
            )
        )

    def _tally_capped(self, folded: Folded) -> None:
        full = int(np.count_nonzero(folded.full))
        capped = len(folded.recent) - int(np.count_nonzero(folded.counts)) - full
        if capped:
            self.tally(OVER_DAILY_CAP, capped)
        if full:
            self.tally(OVER_DAILY_LIMIT, full)

    def facts(self) -> facts.Actions:
        """All facts, in the order of the log."""
        if not self._chunks:
            return facts.NO_ACTIONS
        offset, item, time, action, flags = (
            np.concatenate([chunk[i] for chunk in self._chunks]) for i in range(5)
        )
        order = np.argsort(offset, kind="stable")
        partners, reach = (np.concatenate([it[i] for it in self._chunks])[order] for i in (5, 6))
        present = partners != 0
        owner, lag = np.nonzero(present)
        within = lag < reach[owner]
        return facts.Actions(
            (offset[order] - self._first).astype(np.uint32),
            item[order],
            time[order].astype(np.uint32),
            action[order],
            flags[order].astype(np.uint8),
            present.sum(1, dtype=np.uint8),
            partners[present],
            (lag + 1 | np.where(within, facts.SAME_SESSION, 0)).astype(np.uint8),
        )


def layers(records: list[Record]) -> list[list[tuple[int, Any]]]:
    """The records that change rows, in lists to fold one after the other: actions, then links, unlinks and
    merges, and so on. Each person's records keep their order. People do not depend on each other, so the
    number of lists is the most that one person alternates, not the number that the log does."""
    if {type(event) for _, _, event in records} <= {Action}:
        return [[(offset, event) for offset, _, event in records]] if records else []
    cut: list[list[tuple[int, Any]]] = []
    reached: dict[str, int] = {}
    for offset, _, event in records:
        kind = type(event)
        if kind is Action:
            parity = 0
        elif kind is Link or kind is Merge or kind is Unlink:
            parity = 1
        else:
            continue
        at = reached.get(event.person, 0)
        at += at % 2 != parity  # actions lie in even ones
        reached[event.person] = at
        while len(cut) <= at:
            cut.append([])
        cut[at].append((offset, event))
    return list(filter(None, cut))
