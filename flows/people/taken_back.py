"""The list of recent actions marks what its person took back since, so that it expresses no interest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.people.batch import Effects, Hashes, Record
from flows.people.rows import Rows
from models.dedupe import IDENTITY_BITS, action_identity
from models.features import ring
from schemas.actions import REVERSIBLE, code_of
from schemas.events import Action, Merge


class TakenBack(NamedTuple):
    """The record at `offset` took back an action of `person` on `item`, of this identity."""

    offset: int
    person: str
    identity: int
    item: int


def mark(records: Sequence[Record], effects: Effects, rows: Rows, items: Hashes) -> None:
    """Marks the entries of what was taken back in this batch, in rows and in merges that left after it. What
    entered after that record is not marked, whatever its identity."""
    if not effects.taken_back:
        return
    entered = _entered(records, effects, items)
    for taken in map(TakenBack._make, effects.taken_back):
        came = [
            at
            for at in entered.get((taken.person, taken.identity, taken.item), ())
            if at > taken.offset and (at, taken.identity, taken.item) not in effects.not_entered
        ]
        for merge in effects.outgoing.values():
            if merge.of == taken.person and merge.offset > taken.offset:
                _mark_merge(taken, sum(at < merge.offset for at in came), merge)
        if taken.offset > effects.unlinked.get(taken.person, -1):
            _mark_row(taken, len(came), effects, rows)


def _mark_merge(taken: TakenBack, later: int, merge: Merge) -> None:
    """Marks the merge's entries of this identity but the last `later`; the newest come first in it."""
    name = taken.identity, taken.item
    named = [moved for moved in merge.recent if (moved.identity, moved.item) == name]
    for moved in named[later:]:
        moved.flags |= ring.BACK


def _mark_row(taken: TakenBack, later: int, effects: Effects, rows: Rows) -> None:
    """Marks the person's entries of this identity but the last `later`."""
    slots = rows.slots([taken.person])
    taken_rows = rows.take(slots)
    keys = ring.keys(taken_rows[0])
    named = [n for n, key in enumerate(keys) if (key[4], key[1]) == (taken.identity, taken.item)]
    if not named[: len(named) - later]:
        return
    for n in named[: len(named) - later]:
        keys[n] = (*keys[n][:5], keys[n][5] | ring.BACK)
    ring.write(taken_rows[0], sorted(keys), int(taken_rows[0]["n"]))
    rows.put(slots, taken_rows)
    effects.dirty.update(slots.tolist())
    effects.recent_changed.update(slots.tolist())


def _entered(
    records: Sequence[Record], effects: Effects, items: Hashes
) -> dict[tuple[str, int, int], list[int]]:
    """(person, identity, item) -> offsets at which such an entry came in this batch."""
    found: dict[tuple[str, int, int], list[int]] = {}
    for offset, _, event in records:
        if isinstance(event, Action):
            if REVERSIBLE[code_of(event.action, event.negative)]:
                identity = action_identity(event) & IDENTITY_BITS or 1
                name = event.person, identity, items[event.item_id]
                found.setdefault(name, []).append(offset)
        elif isinstance(event, Merge) and offset in effects.new_merges:
            for moved in event.recent:
                name = event.person, moved.identity, moved.item
                found.setdefault(name, []).append(offset)
    return found
