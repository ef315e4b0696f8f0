"""The list of recent actions marks what its person took back since, so that it expresses no interest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.people.batch import Effects, Hashes
from flows.people.rows import PartitionRows
from models.features import ring
from models.outcomes.purchases import LIKE
from schemas.actions import REVERSIBLE, code_of
from schemas.events import Action, Event, Merge

Name = tuple[str, int, int, int]
"""(person, item, identity of a purchase, else 0; time of a like in s, else 0)."""


class TakenBack(NamedTuple):
    """The record at `offset` took back an action of `person` on `item`: the purchase of this identity, or,
    where it is 0, the like at `at` (s)."""

    offset: int
    person: str
    identity: int
    item: int
    at: int

    def names(self, item: int, action: int, identity: int, time: int) -> bool:
        """Whether an entry of the list is it. `time` in ms."""
        if item != self.item:
            return False
        return identity == self.identity or (
            not self.identity and action == LIKE and time // 1000 == self.at
        )


def mark(
    records: Sequence[tuple[int, Event]], effects: Effects, rows: PartitionRows, items: Hashes
) -> None:
    """Marks the entries of what was taken back in this batch, in rows and in merges that left after it. What
    entered after that record is not marked, whatever its identity. `records`: (offset, event), at least those
    of actions that can be taken back, and of merges."""
    if not effects.taken_back:
        return
    entered = _entered(records, effects, items)
    for taken in map(TakenBack._make, effects.taken_back):
        name = taken.person, taken.item, taken.identity, 0 if taken.identity else taken.at
        came = [at for at in entered.get(name, ()) if at > taken.offset]
        for merge in effects.outgoing.values():
            if merge.of == taken.person and merge.offset > taken.offset:
                _mark_merge(taken, sum(at < merge.offset for at in came), merge)
        if taken.offset > effects.unlinked.get(taken.person, -1):
            _mark_row(taken, len(came), effects, rows)


def _mark_merge(taken: TakenBack, later: int, merge: Merge) -> None:
    """Marks the merge's entries of this identity but the last `later`; the newest come first in it."""
    named = [
        moved
        for moved in merge.recent
        if taken.names(moved.item, moved.action, moved.identity, moved.at)
    ]
    for moved in named[later:]:
        moved.flags |= ring.BACK


def _mark_row(taken: TakenBack, later: int, effects: Effects, rows: PartitionRows) -> None:
    """Marks the person's entries of this identity but the last `later`."""
    slots = rows.slots([taken.person])
    taken_rows = rows.take(slots)
    keys = ring.keys(taken_rows[0])
    named = [
        n
        for n, (time, item, _, action, identity, _) in enumerate(keys)
        if taken.names(item, action, identity, time)
    ]
    if not named[: len(named) - later]:
        return
    for n in named[: len(named) - later]:
        keys[n] = (*keys[n][:5], keys[n][5] | ring.BACK)
    ring.write(taken_rows[0], sorted(keys), int(taken_rows[0]["n"]))
    rows.put(slots, taken_rows)
    effects.dirty.update(slots.tolist())
    effects.recent_changed.update(slots.tolist())


def _entered(
    records: Sequence[tuple[int, Event]], effects: Effects, items: Hashes
) -> dict[Name, list[int]]:
    """Offsets at which entries that can be taken back came into the list in this batch."""
    found: dict[Name, list[int]] = {}

    def add(offset: int, person: str, item: int, action: int, identity: int, at: int) -> None:
        if (offset, identity, item) not in effects.not_entered:
            like = action == LIKE
            name = person, item, 0 if like else identity, at // 1000 if like else 0
            found.setdefault(name, []).append(offset)

    for offset, event in records:
        if isinstance(event, Action):
            code = code_of(event.action, event.negative)
            if REVERSIBLE[code]:
                item, identity = items[event.item_id], effects.identity[offset]
                add(offset, event.person, item, code, identity, event.occurred_at)
        elif isinstance(event, Merge) and offset in effects.new_merges:
            for it in event.recent:
                add(offset, event.person, it.item, it.action, it.identity, it.at)
    return found
