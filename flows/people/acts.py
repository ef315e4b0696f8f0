"""The actions of a read: all partitions' at once into the rows, then by partition what they did besides.

A batch of plain actions makes no object and few NumPy calls, however few actions it holds: what most batches
lack (linked ids, purchases, lists that are full) is looked for once, by the bits of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flows.people.batch import PURCHASED, Effects
from flows.people.read import ReadFold, SpanFold
from flows.people.rows import Fetch, Rows
from flows.people.seen import SeenStrings, append_all, append_long
from models.arrays import I64, Mask
from models.features import merged, registry
from models.features.act import LATE_MS, VERDICTS, Acted, act, grouped
from models.features.columns import ActionColumns
from models.features.overflow import Overflow
from models.outcomes.purchases import REPEATED_ORDER
from models.seen import APPENDED, PURCHASE, bits_of, entries, of_list
from schemas.actions import REVERSIBLE
from schemas.events import Action
from schemas.identity import group_hash
from schemas.state import facts

_REVERSIBLE, _APPENDED, _PURCHASED = 1, 2, 4
_KINDS: Final = (_REVERSIBLE * REVERSIBLE | _APPENDED * APPENDED).astype(np.uint8)
_KINDS[PURCHASED] |= _PURCHASED
"""By code of an action, what it needs besides its row and its fact: it can be taken back, it never enters
the list and is appended to the seen items, it is a purchase, perhaps of an item in a group."""
_RECEIVER: Final = registry.HAS_MERGED | registry.LINKED


class Acts:
    """Folds actions. `fetch` reads stored values by key."""

    def __init__(self, rows: Rows, fetch: Fetch) -> None:
        self._rows, self._fetch = rows, fetch

    def fold(self, read: ReadFold, at: I64) -> None:
        """Folds the actions at the rows `at` of the columns, ascending."""
        at = read.staying(at)
        columns = columns_of(read, at)
        flags = self._rows.array["flags"][columns.slot]
        found = _union(flags)
        if found & registry.HAS_MERGED:
            at = self._without_copies(read, at)
            columns = columns_of(read, at)
        overflow: dict[int, Overflow] = {}
        if found & registry.OVERFLOW:
            overflow = self._overflows(read, dict.fromkeys(read.slots[at].tolist()))
            if read.faults:
                at = read.staying(at)
                columns = columns_of(read, at)
        if not len(at):
            return
        acted = act(self._rows.array, columns, overflow)
        read.acted.append(acted.people)
        read.recent_changed.append(acted.people[acted.recent_changed])
        for slot, held in overflow.items():
            if held.changed:
                self._span(read, slot).state.overflows.put({slot: held})
        kinds = _union(_KINDS[columns.action])
        if kinds & _REVERSIBLE:
            _note(read, at, columns, acted)
        if len(acted.at) < len(at):
            _tally(read, at, acted)
        _add_facts(read, at, columns, acted)
        if kinds & (_APPENDED | _PURCHASED) or len(acted.evicted):
            self._remember_seen(read, at, columns, acted, kinds)
        if found & registry.LINKED:
            self._forward(read, at, columns, acted)

    def _span(self, read: ReadFold, slot: int) -> SpanFold:
        return read.span_in(self._rows.partitions[slot])

    # -- before the rows change ---------------------------------------------------------------

    def _without_copies(self, read: ReadFold, at: I64) -> I64:
        """The actions but for those that their person's list held just before, from a merge."""
        while len(at):
            columns = columns_of(read, at)
            again = self._again(columns)
            if not again.any():
                break
            for i in np.flatnonzero(again).tolist():
                effects, offset = read.span_of(int(at[i])).effects, int(columns.offset[i])
                if columns.action[i] != PURCHASED:  # of purchases `purchases` says so
                    effects.tally(REPEATED_ORDER)
                effects.copies.add(offset)
                effects.not_entered.add((offset, int(columns.identity[i]), int(columns.item[i])))
            at = at[~again]
        return at

    def _again(self, columns: ActionColumns) -> Mask:
        """(n,) by `models.features.merged.again`, of people who got merges and are not linked."""
        again = np.zeros(len(columns.slot), np.bool_)
        flags = self._rows.array["flags"][columns.slot]
        some = np.flatnonzero(flags & _RECEIVER == registry.HAS_MERGED)
        if len(some):
            some = some[np.argsort(columns.slot[some], kind="stable")]
            people, who = np.unique(columns.slot[some], return_inverse=True)
            late = columns.received - columns.time > LATE_MS
            by_person = grouped(columns, some, who, len(people), late)
            everyone = np.ones(len(people), np.bool_)
            again[some] = merged.again(self._rows.take(people), by_person, everyone)
        return again

    def _overflows(self, read: ReadFold, slots: Iterable[int]) -> dict[int, Overflow]:
        """By slot, of those of these people who have any; of a partition in the order of `slots`."""
        flags, whose = self._rows.array["flags"], self._rows.partitions
        mine: dict[int, list[int]] = {}
        for slot in slots:
            if flags[slot] & registry.OVERFLOW:
                mine.setdefault(whose[slot], []).append(slot)
        found: dict[int, Overflow] = {}
        for partition, its in mine.items():
            with read.guarded(partition):
                found.update(read.span_in(partition).state.overflows.of(its))
        return found

    # -- after --------------------------------------------------------------------------------

    def _remember_seen(
        self, read: ReadFold, at: I64, columns: ActionColumns, acted: Acted, kinds: int
    ) -> None:
        """Appends what left the lists, and what never enters them, to people's strings (counted in their
        rows), in the order of the log."""
        when, added = [acted.evicted_at], [of_list(acted.evicted)]
        if kinds & _APPENDED:
            hides = np.flatnonzero(APPENDED[columns.action])
            time, action = columns.time[hides], columns.action[hides]
            when.append(hides)
            added.append(entries(columns.item[hides], time // 1000, bits_of(action, time % 1000)))
        if kinds & _PURCHASED:
            grouped = read.batch.columns.group[at] != 0
            bought = np.flatnonzero(grouped & (columns.action == PURCHASED))
            if len(bought):
                made = [read.batch.columns.event(row) for row in at[bought].tolist()]
                groups = [group_hash(it.group) for it in made if isinstance(it, Action)]
                when.append(bought)
                time = columns.time[bought]
                added.append(entries(np.array(groups, np.uint64), time // 1000, PURCHASE))
        order_of = np.concatenate(when)
        if not len(order_of):
            return
        slots, joined = columns.slot[order_of], np.concatenate(added)
        if len(when) > 1:  # what left the lists is in order by itself
            order = np.lexsort((order_of, slots))
            slots, joined = slots[order], joined[order]
        long = append_all(self._rows.array, slots, joined, lambda slot: self._strings(read, slot))
        if long:
            append_long(
                self._rows.array,
                long,
                self._fetch,
                lambda slot: read.guarded(self._rows.partitions[slot]),
            )

    def _strings(self, read: ReadFold, slot: int) -> tuple[SeenStrings, str, Effects]:
        it = self._span(read, slot)
        return it.state.seen, self._rows.people[slot], it.effects

    def _forward(self, read: ReadFold, at: I64, columns: ActionColumns, acted: Acted) -> None:
        """Sends the actions of linked anonymous ids to their people."""
        linked = self._rows.array["flags"][columns.slot] & registry.LINKED
        for i in np.flatnonzero(linked).tolist():
            row = int(at[i])
            it, made = read.span_of(row), read.batch.columns.event(row)
            assert isinstance(made, Action)
            with read.guarded(it.span.partition):
                it.state.linked.forward(columns, acted, i, made, it.effects)


def _union(bits: NDArray[Any]) -> int:
    """All bits that any of `bits` has; mostly none."""
    return int(np.bitwise_or.reduce(bits)) if bits.tobytes().strip(b"\0") else 0


def _note(read: ReadFold, at: I64, columns: ActionColumns, acted: Acted) -> None:
    """Notes, of actions that can be taken back, by offset which count and which came late."""
    i = np.flatnonzero(REVERSIBLE[columns.action])
    found = columns.offset[i], acted.verdict[i], acted.late[i], columns.identity[i], columns.item[i]
    each = zip(at[i].tolist(), *(it.tolist() for it in found), strict=True)
    stop = 0
    for row, offset, verdict, late, identity, item in each:
        if row >= stop:
            it = read.span_of(row)
            effects, stop = it.effects, it.span.stop
        if verdict == 0:
            effects.counted.add(offset)
        if late:
            effects.not_entered.add((offset, identity, item))


def _tally(read: ReadFold, at: I64, acted: Acted) -> None:
    """Tallies the actions that do not count."""
    for it in read.spans:
        mine = acted.verdict[slice(*np.searchsorted(at, [it.span.start, it.span.stop]))]
        for verdict, n in enumerate(np.bincount(mine).tolist()):
            if verdict and n:
                it.effects.tally(VERDICTS[verdict], n)


def _add_facts(read: ReadFold, at: I64, columns: ActionColumns, acted: Acted) -> None:
    """Adds the facts to their spans: at most 3 of a person, item and UTC day."""
    k, rows = acted.at, at
    offset, item, time, action = columns.offset, columns.item, columns.time, columns.action
    flags, pairs = columns.flags, acted.pairs
    if len(k) < len(at):
        rows, offset, item, time = rows[k], offset[k], item[k], time[k]
        action, flags = action[k], flags[k]
    spans = read.spans
    if len(rows) == len(read.batch):
        stops = [it.span.stop for it in spans]
    else:
        stops = np.searchsorted(rows, [it.span.stop for it in spans]).tolist()
    counts = [b - a for a, b in zip([0, *stops], stops, strict=False)]
    firsts = np.array([it.span.first for it in spans], np.int64).repeat(counts)
    made = facts.Actions(
        (offset - firsts).astype(np.uint32),
        item,
        (time // 1000).astype(np.uint32),
        *(action, flags, pairs, acted.partner, acted.lag),
    )
    until = [0, *accumulate(pairs.tolist())]
    pack = facts.packed_few if len(rows) <= facts.FEW else facts.packed_actions
    packed = pack(made, stops, [until[stop] for stop in stops])
    for it, its in zip(spans, packed, strict=True):
        if its.n:
            it.effects.add(its)


def columns_of(read: ReadFold, at: I64) -> ActionColumns:
    """The actions at the rows `at`, ascending."""
    c, offset, slot = read.batch.columns, read.batch.offsets, read.slots
    name = c.name
    columns = slot, offset, c.item, c.category, c.occurred, c.received, c.action, c.session
    if len(at) < len(c):
        columns = tuple(it[at] for it in columns)  # type: ignore[assignment]
        return ActionColumns(*columns, np.maximum(name[at].astype(np.uint32), 1), c.flags[at])
    return ActionColumns(*columns, np.maximum(name.astype(np.uint32), 1), c.flags)
