"""The fold of people's events: pure, one batch of columns over all partitions of a worker.

What is the same work for every record is done once for the whole read: the rows of people lie in one array,
slots are found by (partition, person), one call folds all actions, one packs the changed rows, one makes the
vectors. What belongs to a partition is kept by partition (`flows.people.partition`): its fence, ids of
de-duplication, received merges, tallies, slates, strings of seen items. Objects of events are made only for
records that need one: purchases, likes, actions on a slate, and whatever is no action.

A partition's write is byte for byte what a fold of that partition alone makes, whatever else is in the read.
A stored value that cannot be read takes its partition out of the read (`PeopleFold.faults`), and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import numpy as np

from flows.people import taken_back
from flows.people.acts import Acts
from flows.people.batch import Decoded, Effects, Hashes, Span, deduped
from flows.people.changed import store_changed
from flows.people.layers import LISTED, MERGE, MOVES, PREFERENCES, layers
from flows.people.listings import listings_of
from flows.people.outcome_facts import OutcomeFacts
from flows.people.outcome_records import (
    FirstAct,
    concerned,
    concerns_none,
    outcome_records,
    repeated,
)
from flows.people.partition import PartitionState, Shared
from flows.people.read import Faults, ReadFold, SpanFold
from flows.people.rows import Fetch, JointFetch, Rows, UnreadableRows
from models.arrays import I64, Mask
from models.features import registry
from models.outcomes.join import REACH
from models.outcomes.touched import Reach
from models.records import ACTION
from models.release.person import Encoder
from models.seen import MAX_ITEMS
from schemas import events
from schemas.actions import REVERSIBLE
from schemas.events import Action, Merge
from schemas.identity import category_hash, item_hash
from schemas.keys import Keyspace
from schemas.state import facts
from schemas.state.fences import Fence
from schemas.state.write import StreamEntry, Write
from schemas.version import Upgrades, readable

VERSION: Final = 7
"""Of this fold: a change of what it stores needs a new version."""
UPGRADES: Final[Upgrades[dict[bytes, bytes]]] = {6: dict}
"""Keys and values of a partition as an earlier version stored them -> as this version stores them
(`schemas.version`; records with a version of their own are upgraded before). Empty: the log is folded
again."""
_READ_AS_STORED: Final = {6}
"""Of those, the versions whose values are read as they lie, each stored anew when it changes."""
READABLE: Final = tuple(
    it for it in readable(VERSION, UPGRADES) if it == VERSION or it in _READ_AS_STORED
)
"""Versions of a stored partition that a worker goes on from, without a rebuild."""
_DUPLICATES: Final = [
    "duplicate" if kind is Action else f"duplicate_{kind.__struct_config__.tag}"
    for kind in events.EVERY_KIND
]
"""By kind, the reason under which a dropped record is tallied."""


class PeopleFold:
    """The state of some partitions, and what a read of them does to it.

    `fences`: by partition; `fetch` reads stored values by key; `dedupe_ms`: the window of de-duplication;
    `row_cache`: rows in memory, of each partition; `reach`: of purchases that name no slate; `max_seen`: seen
    items that a compaction keeps; `strangers`: how many a partition keeps (`flows.people.strangers`). The
    fold uses no clock, no socket and no random numbers.
    """

    def __init__(
        self,
        fences: Mapping[int, Fence],
        fetch: Fetch,
        dedupe_ms: int,
        row_cache: int,
        keyspace: Keyspace,
        reach: Reach = REACH,
        max_seen: int = MAX_ITEMS,
        strangers: int = 0,
    ) -> None:
        self.keyspace = keyspace
        self._joint = JointFetch(fetch)
        self._rows = Rows(self._joint, row_cache, keyspace)
        self._items = Hashes(item_hash)
        self._shared = Shared(
            fetch,
            self._joint,
            self._rows,
            self._items,
            Hashes(category_hash),
            dedupe_ms,
            row_cache,
            keyspace,
            reach,
            max_seen,
            strangers,
        )
        self._acts = Acts(self._rows, fetch)
        self._partitions: dict[int, PartitionState] = {}
        self.faults: Faults = {}
        """Partitions that had to leave the last read, and why: a stored value of theirs cannot be read. What
        the fold holds of them is of no use: `forget` them, or `begin` them again."""
        self.encoder: Encoder | None = None
        """Makes people's vectors. The caller may replace it between two reads."""
        for partition, fence in fences.items():
            self.begin(partition, fence)

    def begin(self, partition: int, fence: Fence) -> None:
        """Takes a partition, or takes it again, at its fence. Errors: ValueError where a stored value of it
        cannot be read; then the fold does not have it."""
        self.forget(partition)
        self._rows.begin(partition)
        fence = msgspec.structs.replace(fence, version=VERSION)
        self._partitions[partition] = PartitionState(partition, fence, self._shared)

    def forget(self, partition: int) -> None:
        """Drops what is held of a partition. Call it between reads only."""
        self._partitions.pop(partition, None)

    def fence(self, partition: int) -> Fence:
        """After the last span that was folded of it."""
        return self._partitions[partition].fence

    @property
    def strangers(self) -> int:
        """How many the rings of its partitions hold."""
        return sum(len(it.strangers) for it in list(self._partitions.values()))

    def remember_received(self, partition: int, held: Mapping[bytes, bytes]) -> None:
        """Loads the last number received from each source partition: source -> ``offset-n``."""
        self._partitions[partition].linked.remember_received(held)

    def remember_tallies(self, partition: int, held: Mapping[bytes, bytes]) -> None:
        """Loads the totals of what was accepted and is not counted: reason -> total."""
        self._partitions[partition].remember_tallies(held)

    # -- dedupe ---------------------------------------------------------------------------

    def dedupe(self, batch: Decoded) -> Decoded:
        """Drops the records that were folded before (law 12)."""
        return deduped(batch, [self._partitions[it.partition].dedupe for it in batch.spans])

    # -- fold -----------------------------------------------------------------------------

    def fold(self, batch: Decoded) -> list[Write]:
        """The write of each partition of the read but for `faults`, which `flows.kit.commit` performs."""
        self._rows.make_room()
        for state in self._partitions.values():
            state.make_room()
        read = ReadFold(batch, self._partitions)
        self.faults = read.faults
        kinds = _kinds(batch)
        if MERGE in kinds:
            self._receive(read)
        self._choose_outcomes(read, plain=kinds <= {ACTION})
        self._find_rows(read, kinds)
        for layer in _layers(read, kinds):
            self._fold_layer(read, layer)
        if PREFERENCES in kinds:
            self._prefer(read)
        found = self._join(read)
        if any(it.effects.taken_back for it in read.spans):
            self._mark_taken_back(read)
        if batch.dropped is not None:
            self._count_dropped(read)
        store_changed(read, self._rows, self.encoder)
        listing = LISTED in kinds or MERGE in kinds
        return [self._write(read, it, found.get(it.span.partition), listing) for it in read.spans]

    def _receive(self, read: ReadFold) -> None:
        """Notes which merges are new; the others change nothing."""
        for row in np.flatnonzero(read.batch.columns.kind == MERGE).tolist():
            it, merge = read.span_of(row), read.batch.columns.event(row)
            assert isinstance(merge, Merge)
            it.state.linked.is_new(int(read.batch.offsets[row]), merge, it.effects)

    def _choose_outcomes(self, read: ReadFold, *, plain: bool) -> None:
        """Chooses the records that the slates take; the next read of the store reads what they lack, too."""
        self._joint.want([])
        columns, dropped = read.batch.columns, read.batch.dropped
        again = repeated(dropped.columns) if dropped is not None else None
        first_acts = self._first_acts(read)
        if plain and again is None and not first_acts and concerns_none(columns):
            return
        chosen = concerned(columns, plain=plain)
        if not (chosen.any() or first_acts) and (again is None or not again.any()):
            return
        wanted: list[bytes] = []
        for n, it in enumerate(read.spans):
            if again is not None and dropped is not None:
                span = dropped.spans[n]
                rows = span.start + np.flatnonzero(again[span.start : span.stop])
                it.span.repeated = dropped.at(rows)
        found = outcome_records(read.batch, chosen, first_acts)
        for it, it.outcomes in zip(read.spans, found, strict=True):
            if read.batch.indexes is not None:
                it.effects.indexes = _indexes(read.batch, it.span, chosen)
            if it.outcomes:
                it.missing = it.state.slates.missing(it.outcomes)
                wanted += it.missing
        self._joint.want(wanted)

    @staticmethod
    def _first_acts(read: ReadFold) -> dict[int, FirstAct]:
        """By row."""
        columns, offsets = read.batch.columns, read.batch.offsets
        found: dict[int, FirstAct] = {}
        for it in read.spans:
            found |= it.state.strangers.first_acts(columns, offsets, it.span, it.effects)
        return found

    def _find_rows(self, read: ReadFold, kinds: set[int]) -> None:
        """Finds the slots of all people whose rows may change. Partitions whose rows cannot be read leave."""
        while True:
            try:
                read.slots = self._slots(read.batch, plain=kinds <= {ACTION})
                if read.batch.dropped is not None:
                    read.dropped_slots = self._slots(read.batch.dropped, plain=False, moves=False)
                return
            except UnreadableRows as error:
                read.leave(error.faults)

    def _slots(self, batch: Decoded, *, plain: bool, moves: bool = True) -> I64:
        """(n,) the slots of people who act, and where `moves` of those whose rows move; -1 for the others."""
        columns, spans = batch.columns, batch.spans
        of = [it.partition for it in spans]
        if plain:
            counts = [it.stop - it.start for it in spans]
            return self._rows.slots(
                of, counts, columns.person, columns.person2, columns.person_text
            )
        slots = np.full(len(columns), -1, np.int64)
        wanted = columns.kind == ACTION
        if moves:
            wanted |= MOVES[columns.kind]
        rows = np.flatnonzero(wanted)
        counts = [int(np.count_nonzero(wanted[it.start : it.stop])) for it in spans]
        slots[rows] = self._rows.slots(
            of,
            counts,
            columns.person[rows],
            columns.person2[rows],
            lambda i: columns.person_text(int(rows[i])),
        )
        return slots

    def _fold_layer(self, read: ReadFold, rows: I64) -> None:
        """Folds one of `layers`."""
        columns, offsets = read.batch.columns, read.batch.offsets
        if columns.kind[rows[0]] == ACTION:
            self._acts.fold(read, rows)
            return
        for row in read.staying(rows).tolist():
            it, event, offset = read.span_of(row), columns.event(row), int(offsets[row])
            if isinstance(event, Merge) and offset not in it.effects.new_merges:
                continue
            with read.guarded(it.span.partition):
                it.state.linked.fold(offset, event, it.effects)

    def _join(self, read: ReadFold) -> dict[int, OutcomeFacts]:
        """Has the slates take their records; by partition the facts."""
        found: dict[int, OutcomeFacts] = {}
        for it in read.spans:
            if it.outcomes:
                with read.guarded(it.span.partition):
                    found[it.span.partition] = it.state.slates.join(
                        it.outcomes, it.missing, it.span, it.effects
                    )
        return found

    def _mark_taken_back(self, read: ReadFold) -> None:
        columns = read.batch.columns
        which = (columns.kind == ACTION) & REVERSIBLE[columns.action] | (columns.kind == MERGE)
        for it in read.spans:
            if it.effects.taken_back:
                records = list(_events(read, it, np.flatnonzero(which)))
                with read.guarded(it.span.partition):
                    taken_back.mark(records, it.effects, it.state.rows, self._items)

    def _count_dropped(self, read: ReadFold) -> None:
        """Counts duplicates: all in the tallies, a person's actions in their row, too."""
        dropped = read.batch.dropped
        assert dropped is not None
        spans = {it.span.partition: it for it in read.spans}
        counted = dropped.columns.kind == ACTION
        for span in dropped.spans:
            if (it := spans.get(span.partition)) is None:
                continue
            kinds = dropped.columns.kind[span.start : span.stop]
            for kind, n in enumerate(np.bincount(kinds).tolist()):
                if n:
                    it.effects.tally(_DUPLICATES[kind], n)
            if it.effects.unlinked:
                for row in range(span.start, span.stop):
                    last = it.effects.unlinked.get(dropped.columns.person_text(row), -1)
                    counted[row] &= int(dropped.offsets[row]) > last
        slots, counts = np.unique(read.dropped_slots[counted], return_counts=True)
        if len(slots):
            self._rows.array["duplicates"][slots] += counts.astype(np.uint32)
            self._rows.array["version"][slots] = registry.VERSION
            read.acted.append(slots)

    def _prefer(self, read: ReadFold) -> None:
        """Stores the preferences of people, where no later record of the span ended their link."""
        rows = np.flatnonzero(read.batch.columns.kind == PREFERENCES)
        for it in read.spans:
            for offset, event in _events(read, it, rows):
                if offset > it.effects.unlinked.get(event.person, -1):
                    key = self.keyspace.preferences(it.span.partition, event.person)
                    it.effects.write.values[key] = events.encode(event)

    def _write(
        self, read: ReadFold, it: SpanFold, found: OutcomeFacts | None, listing: bool
    ) -> Write:
        """The write of one span, complete."""
        span, state, effects, write = it.span, it.state, it.effects, it.effects.write
        state.overflows.store(write)
        state.strangers.store(write)
        state.store_tallies(effects)
        if effects.cleared:
            effects.settle_cleared()
        state.store_ids(span, write)
        if effects.outgoing:
            write.entries += state.linked.outbox(effects)
        listings = facts.NO_LISTINGS
        if listing:
            kinds = read.batch.columns.kind
            rows = np.flatnonzero((kinds == LISTED) | (kinds == MERGE))
            listings = listings_of(_events(read, it, rows), span.first, effects.new_merges)
        data = {facts.FIELD: _entry(span, effects, listings, found or facts.NONE_PACKED)}
        write.entries.append(StreamEntry(state.deltas, b"%d-0" % span.next, data))
        state.fence = write.fence
        return write


def _entry(
    span: Span, effects: Effects, listings: facts.Listings, packed: Mapping[str, facts.Packed]
) -> bytes:
    """The entry of the delta log."""
    acted = effects.facts()
    if isinstance(acted, facts.PackedActions):
        if not packed and span.days is facts.NO_DAYS and listings is facts.NO_LISTINGS:
            return facts.encode_plain(span.first, span.next, acted)
        packed, acted = {**packed, **acted.sections()}, facts.NO_ACTIONS
    delta = facts.Delta(span.first, span.next, acted, days=span.days, listings=listings)
    return facts.encode(delta, packed)


def _indexes(batch: Decoded, span: Span, chosen: Mask) -> dict[int, int]:
    """`Effects.indexes` of the records under `chosen` (n,)."""
    assert batch.indexes is not None
    mine = slice(span.start, span.stop)
    at = span.start + np.flatnonzero(chosen[mine] & (batch.indexes[mine] > 0))
    return {id(batch.columns.event(row)): int(batch.indexes[row]) for row in at.tolist()}


def _kinds(batch: Decoded) -> set[int]:
    kind = batch.columns.kind.tobytes()
    return set(kind) if kind.strip(b"\0") else {ACTION}  # an action's code is 0


def _layers(read: ReadFold, kinds: set[int]) -> list[I64]:
    if kinds <= {ACTION}:
        return [np.arange(len(read.batch))] if len(read.batch) else []
    return layers(read.batch.columns.kind, read.slots)


def _events(read: ReadFold, it: SpanFold, rows: I64) -> Iterator[tuple[int, events.Event]]:
    """(offset, event) of those of the records at `rows` that are of the span."""
    for row in rows.tolist():
        if it.span.start <= row < it.span.stop:
            yield int(read.batch.offsets[row]), read.batch.columns.event(row)
