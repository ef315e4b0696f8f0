"""The fold of a person's events: pure, vectorised over a batch, one function a concern."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from flows.people import taken_back
from flows.people.accounts import with_impressions_by_time
from flows.people.batch import Decoded, Effects, Hashes, Record, deduped, layers, listings_of
from flows.people.links import PURCHASED, Linked
from flows.people.outcome_records import outcome_records
from flows.people.overflow import Overflows
from flows.people.rows import Fetch, JointFetch, Rows
from flows.people.seen import SeenStrings
from flows.people.slates import Slates
from models.arrays import Mask
from models.dedupe import Deduper, duplicate_reason
from models.features import merged, registry
from models.features.columns import Columns, Folded
from models.features.ring import RING_SIZE
from models.outcomes.join import REACH
from models.outcomes.purchases import REPEATED_ORDER
from models.outcomes.touched import Reach
from models.release.person import Encoder
from models.seen import APPENDED, MAX_ITEMS, PURCHASE, bits_of, entries, of_list
from schemas import events
from schemas.actions import CODE, NEGATIVE, REVERSIBLE
from schemas.events import Action, Listed, Merge, Preferences
from schemas.identity import category_hash, group_hash, item_hash
from schemas.keys import Keyspace
from schemas.state import facts
from schemas.state.fences import Fence
from schemas.state.write import StreamEntry, Write
from schemas.times import DAY_MS
from schemas.version import Upgrades

VERSION: Final = 6
"""Of this fold: a change of what it stores needs a new version."""
UPGRADES: Final[Upgrades[dict[bytes, bytes]]] = {5: with_impressions_by_time}
"""Keys and values of a partition as an earlier version stored them -> as this version stores them
(`schemas.version`; records with a version of their own are upgraded before). Empty: the log is folded
again."""
LATE_MS: Final = 7 * DAY_MS
"""An action that arrives so long after it occurred does not enter the list of recent actions."""
_xxh = xxhash.xxh3_64_intdigest


class PeopleFold:
    """The state of one partition, and what a batch does to it.

    `fetch` reads stored values by key; `dedupe_ms`: the window of de-duplication; `row_cache`: rows in
    memory; `reach`: of purchases that name no slate; `max_seen`: seen items that a compaction keeps. The fold
    uses no clock, no socket and no random numbers.
    """

    def __init__(
        self,
        partition: int,
        fence: Fence,
        fetch: Fetch,
        dedupe_ms: int,
        row_cache: int,
        keyspace: Keyspace,
        reach: Reach = REACH,
        max_seen: int = MAX_ITEMS,
    ) -> None:
        self.partition, self.fence, self.keyspace = partition, fence, keyspace
        self._fetch = JointFetch(fetch)
        self._rows = Rows(partition, self._fetch, row_cache, keyspace)
        self._dedupe = Deduper(dedupe_ms, fence.newest)
        self._items, self._categories = Hashes(item_hash), Hashes(category_hash)
        self._slates = Slates(
            partition,
            self._fetch,
            row_cache,
            self._items,
            self._categories,
            keyspace,
            dedupe_ms,
            reach,
        )
        self.encoder: Encoder | None = None
        """Makes people's vectors. The caller may replace it between two batches."""
        self._overflows = Overflows(partition, fetch, self._rows, keyspace)
        self._seen = SeenStrings(partition, fetch, keyspace, max_seen)
        self._linked = Linked(partition, fetch, self._rows, self._overflows, self._seen, keyspace)
        self._tallies: Counter[str] = Counter()
        self._load()

    def _load(self) -> None:
        buckets = list(self._dedupe.live())
        for bucket, held in zip(
            buckets,
            self._fetch([self.keyspace.dedupe(self.partition, b) for b in buckets]),
            strict=True,
        ):
            if held:
                self._dedupe.load(bucket, np.frombuffer(held, "<u8"))

    def remember_received(self, held: dict[bytes, bytes]) -> None:
        """Loads the last number received from each source partition: source -> ``offset-n``."""
        self._linked.remember_received(held)

    def remember_tallies(self, held: Mapping[bytes, bytes]) -> None:
        """Loads the totals of what was accepted and is not counted: reason -> total."""
        self._tallies.update({reason.decode(): int(total) for reason, total in held.items()})

    # -- dedupe ---------------------------------------------------------------------------

    def dedupe(self, batch: Decoded) -> Decoded:
        """Drops the records that were folded before (law 12)."""
        return deduped(batch, self._dedupe)

    # -- fold -----------------------------------------------------------------------------

    def fold(self, batch: Decoded) -> Write:
        """The write of this batch, which `flows.kit.commit` performs."""
        self._rows.make_room()
        self._slates.make_room()
        self._linked.make_room()
        self._overflows.make_room()
        # the newest time that de-duplication has seen, so that a restart does not change its window
        newest = max(self.fence.newest, self._dedupe.newest)
        fence = Fence(self.fence.topic_id, self.fence.partitions, batch.next, newest, VERSION)
        write = Write("people", self.partition, batch.first, fence, self.keyspace)
        effects = Effects(write, batch.first, batch.identities)
        effects.indexes = batch.indexes
        records, kinds = batch.records, {type(event) for _, _, event in batch.records}
        if Merge in kinds:
            records = self._linked.fresh(records, effects)
        concerned = outcome_records(batch)
        missing = self._slates.missing(concerned)
        self._fetch.want(missing)
        for layer in layers(records):
            if isinstance(layer[0][1], Action):
                self._act(layer, effects)
            else:
                self._linked.fold(layer, effects)
        if Preferences in kinds:
            self._prefer(records, effects)
        arms, moments, money = self._slates.join(concerned, missing, batch, effects)
        taken_back.mark(batch.records, effects, self._rows, self._items)
        self._count_dropped(batch.dropped, effects)
        self._store(effects)
        self._store_tallies(effects)
        effects.settle_cleared()
        for bucket, ids in batch.ids.items():
            write.append(self.keyspace.dedupe(self.partition, bucket), ids.tobytes())
        write.deleted += [self.keyspace.dedupe(self.partition, bucket) for bucket in batch.expired]
        write.entries += self._linked.outbox(effects)
        listings = facts.NO_LISTINGS
        if Listed in kinds or effects.new_merges:
            listings = listings_of(batch, effects.new_merges)
        found = facts.Delta(
            batch.first,
            batch.next,
            effects.facts(),
            arms,
            moments,
            money,
            days=batch.days,
            listings=listings,
        )
        write.entries.append(
            StreamEntry(
                self.keyspace.deltas(self.partition),
                b"%d-0" % batch.next,
                {facts.FIELD: facts.encode(found)},
            )
        )
        self.fence = fence
        return write

    def _act(self, layer: Sequence[tuple[int, Any]], effects: Effects) -> None:
        acts: list[Action] = [event for _, event in layer]
        slots = self._rows.slots([a.person for a in acts])
        order = np.argsort(slots, kind="stable")
        people, who = np.unique(slots[order], return_inverse=True)
        offsets = np.array([offset for offset, _ in layer], np.int64)[order]
        identity = effects.identities(offsets)
        columns = self._columns(offsets, identity, acts, order, who, len(people))
        rows = self._rows.take(people)
        bits = registry.HAS_MERGED | registry.LINKED
        receivers = rows["flags"] & bits == registry.HAS_MERGED
        if receivers.any() and (again := merged.again(rows, columns, receivers)).any():
            # of purchases `purchases` says so
            if others := int((again & (columns.action != PURCHASED)).sum()):
                effects.tally(REPEATED_ORDER, others)
            effects.copies.update(columns.offset[again].tolist())
            effects.not_entered.update(_names(columns, again))
            rest = [layer[i] for i in np.sort(order[~again]).tolist()]
            if rest:
                self._act(rest, effects)
            return
        if (late := columns.late & REVERSIBLE[columns.action]).any():
            effects.not_entered.update(_names(columns, late))
        overflow = self._overflows.of(people, rows)
        folded = registry.fold(rows, columns, overflow)
        bought = np.flatnonzero(columns.action == PURCHASED).tolist()
        groups = [(at, group) for at in bought if (group := acts[order[at]].group)]
        self._remember_seen(people, rows, columns, folded, groups, effects)
        self._rows.put(people, rows)
        self._overflows.put(people, overflow)
        effects.dirty.update(people.tolist())
        effects.recent_changed.update(people[folded.recent.present].tolist())
        effects.add(columns, folded)
        if (rows["flags"] & registry.LINKED).any():
            for position in np.flatnonzero(rows["flags"][who] & registry.LINKED):
                self._linked.forward(columns, folded, int(position), acts[order[position]], effects)

    def _columns(
        self,
        offset: NDArray[np.int64],
        identity: NDArray[np.uint32],
        acts: list[Action],
        order: NDArray[np.int64],
        who: NDArray[np.int64],
        people: int,
    ) -> Columns:
        """Columns of `acts`, which are in the log's order, sorted by `order`; `offset` and `identity` are
        sorted. To sort the numbers costs a tenth of sorting the objects first."""
        items, categories = self._items, self._categories
        time = np.array([a.occurred_at for a in acts], np.int64)[order]
        received = np.array([a.received_at for a in acts], np.int64)[order]
        session = [_xxh(a.session_id.encode()) or 1 if a.session_id else 0 for a in acts]
        return Columns(
            who=who,
            offset=offset,
            item=np.array([items[a.item_id] for a in acts], np.uint64)[order],
            category=np.array([categories[a.category] for a in acts], np.uint32)[order],
            time=time,
            action=np.array(
                [NEGATIVE[a.action] if a.negative else CODE[a.action] for a in acts], np.uint8
            )[order],
            session=np.array(session, np.uint64)[order],
            identity=identity,
            flags=np.array(
                [
                    (0 if a.known else facts.UNKNOWN)
                    | (facts.IMPORTED if a.source is not None and a.source.mode == "import" else 0)
                    for a in acts
                ],
                np.uint8,
            )[order],
            late=received - time > LATE_MS,
            people=people,
        )

    def _remember_seen(
        self,
        people: NDArray[np.int64],
        rows: NDArray[np.void],
        columns: Columns,
        folded: Folded,
        groups: Sequence[tuple[int, str]],
        effects: Effects,
    ) -> None:
        """Appends what left the list, and what never enters it, to people's strings (counted in `rows`), in
        the order of the log. `groups`: index and group of each purchase of an item in one."""
        evicted, hides = _evicted_at(columns, folded), np.flatnonzero(APPENDED[columns.action])
        bought = np.array([at for at, _ in groups], np.int64)
        at = np.concatenate([evicted, hides, bought])
        if not len(at):
            return
        hashes = np.array([group_hash(group) for _, group in groups], np.uint64)
        added = np.concatenate(
            [
                of_list(folded.evicted),
                entries(
                    columns.item[hides],
                    columns.time[hides] // 1000,
                    bits_of(columns.action[hides], columns.time[hides] % 1000),
                ),
                entries(hashes, columns.time[bought] // 1000, PURCHASE),
            ]
        )
        order = np.argsort(at, kind="stable")
        who = columns.who[at[order]]
        names = [self._rows.person(slot) for slot in people[np.unique(who)].tolist()]
        self._seen.append_all(names, rows, who, added[order], effects)

    def _store(self, effects: Effects) -> None:
        """Adds the changed rows to the write, and the vectors that the encoder makes of them. A person
        without a vector gets the old one deleted."""
        dirty = np.array(sorted(effects.dirty), np.int64)
        rows, write = self._rows.take(dirty), effects.write
        if effects.unlinked:
            present = rows["version"] > 0
            dirty, rows = dirty[present], rows[present]
        write.values.update(self._rows.packed(dirty, rows))
        self._overflows.store(write)
        if effects.recent_changed and self.encoder is not None:
            self._encode(self.encoder, dirty, rows, effects)

    def _encode(
        self, encoder: Encoder, dirty: NDArray[np.int64], rows: NDArray[np.void], effects: Effects
    ) -> None:
        write = effects.write
        recent_changed = np.array(
            [slot in effects.recent_changed for slot in dirty.tolist()], np.bool_
        )
        if not recent_changed.any():
            return
        made = encoder.stored(
            rows if recent_changed.all() else self._rows.take(dirty[recent_changed])
        )
        for slot, vector in zip(dirty[recent_changed].tolist(), made, strict=True):
            key = self.keyspace.vector(self.partition, self._rows.person(slot))
            if vector is None:
                write.deleted.append(key)
            else:
                write.values[key] = vector

    def _count_dropped(self, dropped: Sequence[Record], effects: Effects) -> None:
        """Counts duplicates: all in the tallies, a person's actions in their row, too."""
        if not dropped:
            return
        for _, _, event in dropped:
            effects.tally(duplicate_reason(event))
        people = [
            event.person
            for offset, _, event in dropped
            if isinstance(event, Action) and offset > effects.unlinked.get(event.person, -1)
        ]
        slots, counts = np.unique(self._rows.slots(people), return_counts=True)
        rows = self._rows.take(slots)
        rows["duplicates"] += counts.astype(np.uint32)
        rows["version"] = registry.VERSION
        self._rows.put(slots, rows)
        effects.dirty.update(slots.tolist())

    def _store_tallies(self, effects: Effects) -> None:
        """Adds the new totals of the batch's tallies to the write."""
        if not effects.tallies:
            return
        self._tallies.update(effects.tallies)
        effects.write.fields[self.keyspace.tallies(self.partition)] = {
            reason.encode(): b"%d" % self._tallies[reason] for reason in effects.tallies
        }
        effects.write.counts.update(effects.tallies)

    # -- preferences ----------------------------------------------------------------------

    def _prefer(self, records: Sequence[Record], effects: Effects) -> None:
        """Stores the preferences of people, where no later record of the batch ended their link."""
        for offset, _, event in records:
            if isinstance(event, Preferences) and offset > effects.unlinked.get(event.person, -1):
                key = self.keyspace.preferences(self.partition, event.person)
                effects.write.values[key] = events.encode(event)


def _evicted_at(columns: Columns, folded: Folded) -> NDArray[np.int64]:
    """(k,) for each entry of `folded.evicted` the index of the action that drove it out: one that came late,
    or found the list full."""
    acts = folded.recent
    enters = ~acts.late
    # how many had entered the list before each: those of the batch, by one running sum
    earlier: NDArray[np.int64] = np.cumsum(enters) - enters
    earlier -= earlier[acts.start[acts.who]]
    full = folded.before[acts.who] + earlier >= RING_SIZE
    return np.flatnonzero(folded.entered)[full | acts.late]


def _names(columns: Columns, which: Mask) -> Iterator[tuple[int, int, int]]:
    """(offset, identity, item) of these actions."""
    names = (columns.offset, columns.identity, columns.item)
    return zip(*(column[which].tolist() for column in names), strict=True)
