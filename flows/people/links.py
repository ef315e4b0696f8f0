"""The fold of links: the state of an anonymous id moves to the person's partition, as merges, and what an
unlink ends.

This module moves rows and sets; `flows.people.slates` adds the slates in the same batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flows.people.batch import PURCHASED, Effects
from flows.people.overflow import Overflows
from flows.people.rows import Fetch, PartitionRows
from flows.people.seen import SeenStrings
from models.features import merged, registry, ring
from models.features.act import Acted
from models.features.columns import ActionColumns
from models.features.ring import COUNTED
from models.outcomes.purchases import REPEATED_ORDER
from models.seen import PURCHASE, bits_of, entries_of_merge, of_list
from schemas import events
from schemas.actions import ACTIONS
from schemas.alphabet import Pseudonym
from schemas.events import Action, Link, Merge, MergedAction, Unlink
from schemas.identity import group_hash
from schemas.keys import Keyspace
from schemas.state import links
from schemas.state.write import StreamEntry

MAX_SEEN_PER_MERGE: Final = 4_000
"""A record of so many entries has some 140 kB; a broker accepts 1 MB."""
MAX_CACHED_LINKS: Final = 100_000
Number = tuple[int, int]


class Linked:
    """Links of one partition's people, and the numbers of the merges that it received. `rows` and `seen`: the
    partition's."""

    def __init__(
        self,
        partition: int,
        fetch: Fetch,
        rows: PartitionRows,
        overflows: Overflows,
        seen: SeenStrings,
        keyspace: Keyspace,
    ) -> None:
        self._partition, self._fetch, self._rows, self._seen = partition, fetch, rows, seen
        self._overflows, self._keyspace = overflows, keyspace
        self._received: dict[int, Number] = {}
        self._linked_to: dict[str, str] = {}

    def remember_received(self, held: Mapping[bytes, bytes]) -> None:
        """Loads the last number received from each source partition: source -> ``offset-n``."""
        self._received.update((int(source), events.merge_number(it)) for source, it in held.items())

    def make_room(self) -> None:
        """Empties the cache above its limit. Call it between batches only, when all of it is committed."""
        if len(self._linked_to) > MAX_CACHED_LINKS:
            self._linked_to.clear()

    def fold(self, offset: int, event: Any, effects: Effects) -> None:
        """Folds a link, its end, or a merge."""
        if isinstance(event, Link):
            self._link(offset, event, effects)
        elif isinstance(event, Unlink):
            self._unlink(offset, event, effects)
        else:
            self._merge(offset, event, effects)

    # -- the partition of the anonymous id ----------------------------------------------------

    def _link(self, offset: int, event: Link, effects: Effects) -> None:
        """The first link of an anonymous id sends its state to the person. Every other link sends a merge
        that is `lost`, because a caller waits for the answer."""
        slots = self._rows.slots([event.person])
        rows = self._rows.take(slots)
        merge = Merge(
            person=event.to,
            source=self._partition,
            offset=offset,
            n=1,
            received_at=event.received_at,
            of=event.person,
            link=event.event_id,
        )
        if rows["flags"][0] & registry.LINKED or event.to == event.person:
            merge.lost = True
            effects.send(merge)
            return
        rows["flags"] |= registry.LINKED
        rows["version"] = registry.VERSION
        self._rows.put(slots, rows)
        effects.dirty.update(slots.tolist())
        self._linked_to[event.person] = event.to
        _fill_merge(merge, rows[0])
        self._send_sets(merge, int(slots[0]), effects)

    def _unlink(self, offset: int, event: Unlink, effects: Effects) -> None:
        """Ends the link of an anonymous id to this person: nothing is stored of the id any more. Without such
        a link it has no effect."""
        slots = self._rows.slots([event.person])
        linked = self._rows.take(slots)["flags"][0] & registry.LINKED
        if not linked or self._person_of(event.person) != event.to:
            return
        self._rows.put(slots, np.zeros(1, registry.ROW))  # without a version: its key is deleted
        effects.dirty.update(slots.tolist())
        effects.unlinked[event.person] = offset
        del self._linked_to[event.person]
        named = self._keyspace
        self._overflows.forget(event.person)
        for name in (named.row, named.seen, named.overflow, named.preferences, named.vector):
            effects.clear(name(self._partition, event.person))

    def _send_sets(self, merge: Merge, slot: int, effects: Effects) -> None:
        """Sends the merge, in as many records as its sets need; the last record carries the link's id."""
        seen = self._seen.compacted(self._rows.person(slot), effects).tolist()
        link, merge.link = merge.link, ""
        for at in range(0, max(len(seen), 1), MAX_SEEN_PER_MERGE):
            fragment = merge
            if at:
                fragment = Merge(
                    person=merge.person,
                    source=merge.source,
                    offset=merge.offset,
                    n=1 + at // MAX_SEEN_PER_MERGE,
                    received_at=merge.received_at,
                    of=merge.of,
                )
            fragment.seen = tuple(seen[at : at + MAX_SEEN_PER_MERGE])
            effects.send(fragment)
        fragment.link = link

    def forward(
        self, columns: ActionColumns, acted: Acted, i: int, action: Action, effects: Effects
    ) -> None:
        """Sends action `i` of a linked anonymous id to its person."""
        code, item = int(columns.action[i]), int(columns.item[i])
        recent = bool(ACTIONS[code].recent and not acted.late[i])
        category, identity = int(columns.category[i]), int(columns.identity[i])
        flags = COUNTED * bool(recent and acted.verdict[i] == 0)
        action_of_guest = MergedAction(item, category, action.occurred_at, code, identity, flags)
        seconds, seen = action.occurred_at // 1000, []
        bits = int(bits_of(code, np.int64(action.occurred_at % 1000)))
        if bits and not recent:
            seen.append((item, seconds, bits))
        if action.group and code == PURCHASED:
            seen.append((group_hash(action.group), seconds, PURCHASE))
        effects.send(
            Merge(
                person=Pseudonym(self._person_of(action.person)),
                source=self._partition,
                offset=int(columns.offset[i]),
                n=1,
                received_at=action.received_at,
                of=action.person,
                counts=tuple(int(code == c) for c in range(len(ACTIONS))),
                entered=int(recent),
                first=action.occurred_at,
                newest=action.occurred_at,
                recent=(action_of_guest,) if recent else (),
                seen=tuple(seen),
            )
        )

    def _person_of(self, person: str) -> str:
        if person not in self._linked_to:
            key = self._keyspace.link(self._partition, person)
            self._linked_to[person] = links.decode(self._fetch([key])[0]).to
        return self._linked_to[person]

    def outbox(self, effects: Effects) -> list[StreamEntry]:
        """The entries for the outbox, ascending by number."""
        key = self._keyspace.outbox(self._partition)
        return [
            StreamEntry(
                key,
                b"%d-%d" % number,
                {b"k": merge.person.encode(), b"v": events.encode(merge)},
            )
            for number, merge in sorted(effects.outgoing.items())
        ]

    # -- the partition of the person ----------------------------------------------------------

    def is_new(self, offset: int, event: Merge, effects: Effects) -> bool:
        """Whether the number of the merge at `offset` is new; a new number is stored."""
        number = (event.offset, event.n)
        if number <= self._received.get(event.source, (-1, 0)):
            return False
        self._received[event.source] = number
        effects.write.fields.setdefault(self._keyspace.received(self._partition), {})[
            b"%d" % event.source
        ] = b"%d-%d" % number
        effects.new_merges.add(offset)
        return True

    def _merge(self, offset: int, event: Merge, effects: Effects) -> None:
        """Adds what another partition sent to the person's row and string. It makes no facts, but takes back
        those of actions that the person's list holds already."""
        slots = self._rows.slots([event.person])
        rows, entries = self._rows.take(slots), entries_of_merge(event)
        if not event.newest and not len(entries):
            return
        if event.newest:
            if actions := merged.repeated(rows[0], event):
                _take_back(offset, actions, effects)
                event = merged.without(event, actions)
            evicted = _merge_into_row(rows[0], event)
            self._overflows.keep(int(slots[0]), rows, evicted)
            entries = np.concatenate([of_list(evicted), entries])
            effects.recent_changed.update(slots.tolist())
        rows["version"] = registry.VERSION
        self._seen.append(event.person, rows[0], entries, effects)
        self._rows.put(slots, rows)
        effects.dirty.update(slots.tolist())


def _fill_merge(merge: Merge, row: Any) -> None:
    """Copies a row's values into the merge."""
    merge.counts = tuple(row["counts"].tolist())
    merge.entered = int(row["n"])
    merge.first, merge.newest = int(row["first"]), int(row["newest"])
    merge.recent = tuple(
        MergedAction(item, category, time, action, identity, flags)
        for time, item, category, action, identity, flags in reversed(ring.keys(row))
    )


def _take_back(offset: int, actions: Sequence[MergedAction], effects: Effects) -> None:
    """Takes back the facts of merged actions that count already."""
    effects.tally(REPEATED_ORDER, len(actions))
    effects.not_entered.update((offset, it.identity, it.item) for it in actions)
    for it in actions:
        if it.flags & ring.COUNTED and not it.flags & ring.BACK:
            effects.add_back(offset, it.item, it.at // 1000, it.action)


def _merge_into_row(row: Any, merge: Merge) -> NDArray[np.void]:
    """Adds the merge's values to the row; gives what left the list, or did not enter it, oldest first."""
    row["version"] = registry.VERSION
    if merge.recent:
        row["flags"] |= registry.HAS_MERGED
    row["counts"][: len(merge.counts)] += np.array(merge.counts, np.uint32)
    row["first"] = min(filter(None, (int(row["first"]), merge.first)), default=0)
    row["newest"] = max(int(row["newest"]), merge.newest)
    return ring.merge(row, list(map(ring.merged_key, merge.recent)), merge.entered)
