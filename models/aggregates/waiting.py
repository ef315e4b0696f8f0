"""Facts of items that a partition has not seen listed: they wait, bounded, until one says that it is listed.

An item is listed in a partition from the first fact on whose item the edge had in its catalogue, or from the
first `facts.Listings` of it. What is kept of a partition is a function of its own log: the order of the
partitions, and the cut of the log into entries, change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from models.aggregates.listed_items import ListedItems
from models.aggregates.numbers import DenseNumbers
from models.aggregates.popularity import Popularity
from models.aggregates.waiting_day import WaitingDay
from models.aggregates.waiting_log import COUNTS
from models.aggregates.waiting_pairs import LISTED, NO_PAIRS, PairFacts, in_order, joined
from models.aggregates.waiting_steps import steps
from models.arrays import F64, I64, U64, Mask
from schemas.state.facts import BACK, IMPORTED, Actions, Delta
from schemas.state.tables import WINDOWS


class Limits(NamedTuple):
    """Of what waits in a partition: distinct ids a UTC day of record time, of live and of imported facts;
    days until a day goes."""

    live: int = 10_000
    imported: int = 1_000_000
    days: int = 7


LIMITS: Final = Limits()


class Counted(NamedTuple):
    """What counts from an entry on: its facts at `facts` (n,) and their items' dense numbers, and pairs in
    the order of the log. `rows`: sums that waited, by dense number, until the fact at `after`."""

    facts: I64
    item: I64
    rows: I64
    sums: F64
    after: I64
    pairs: PairFacts


_NO_ROWS: Final = (np.empty(0, np.int64), np.empty((0, len(WINDOWS))), np.empty(0, np.int64))


class WaitingFacts:
    """What waits, by partition and day. `items`: the dense numbers of items that a partition has listed;
    `popularity`: the sums have its landmarks; `over_limit`: facts, and pairs, that came after the limits."""

    def __init__(
        self,
        items: DenseNumbers,
        popularity: Popularity,
        partitions: int,
        limits: Limits = LIMITS,
    ) -> None:
        self.items, self.popularity, self.limits = items, popularity, limits
        self.over_limit = [0, 0]
        self.newest = [0] * partitions
        """By partition: the newest UTC day."""
        self.days: list[dict[int, WaitingDay]] = [{} for _ in range(partitions)]
        self.listed = ListedItems(items, partitions)

    @property
    def ids(self) -> int:
        """Rows of ids that wait, each partition and day by itself."""
        return sum(int(day.counted.sum()) for days in self.days for day in days.values())

    @property
    def pairs(self) -> int:
        return sum(day.pairs for days in self.days for day in days.values())

    def holding(self, partition: int, ids: U64) -> Mask:
        """(n,) whether facts of these ids wait in the partition."""
        found = np.zeros(len(ids), np.bool_)
        for day in self.days[partition].values():
            found |= day.find(ids) >= 0
        return found & ~self.listed.of(partition, self.items.find(ids))

    def rescale(self, factors: F64) -> None:
        """The landmarks of popularity moved: `factors` by window."""
        for days in self.days:
            for day in days.values():
                day.sums *= factors

    def take(self, partition: int, entry: Delta) -> Iterator[Counted]:
        """Takes an entry."""
        actions, at = entry.actions, 0
        starts = np.concatenate([[0], np.cumsum(actions.pairs, dtype=np.int64)])
        for end, day, ids in steps(self.items, self.listed, partition, entry):
            if end > at:
                yield self._take(partition, actions, slice(at, end), starts)
                at = end
            if day is not None:
                self._advance(partition, day)
            if ids is not None:
                yield self._list(partition, ids)

    def _take(self, partition: int, actions: Actions, of: slice, starts: I64) -> Counted:
        """Takes the facts `of` an entry, between two steps."""
        item, flags = actions.item[of], actions.flags[of]
        pairs = slice(int(starts[of.start]), int(starts[of.stop]))
        owner = np.repeat(np.arange(len(item)), actions.pairs[of])
        partner = actions.partner[pairs]
        ids, which = np.unique(np.concatenate([item, partner]), return_inverse=True)
        at = np.concatenate([np.arange(len(item)), owner])
        numbers, since, fresh = self.listed.mark_named(partition, ids, which, flags)
        valid = since[which] <= at
        items, partners = valid[: len(item)], valid[len(item) :]
        both = partners & items[owner]
        number = numbers[which]
        if not valid.all():
            if len(item) == 1 and flags[0] & BACK:
                time, action = int(actions.time[of][0]), int(actions.action[of][0])
                self._take_back(partition, item, time, action)
            else:
                self._wait(partition, actions, of, pairs, (owner, ids, which, number, valid))
        counted = PairFacts(
            number[: len(item)][owner[both]],
            number[len(item) :][both],
            actions.time[of][owner[both]].astype(np.float64),
            actions.lag[pairs][both],
        )
        facts = np.flatnonzero(items)
        found = Counted(facts + of.start, number[facts], *_NO_ROWS, counted)
        if fresh.any():
            rows, sums, released = self._release(partition, ids[fresh], numbers[fresh])
            listed = (numbers[fresh], since[fresh])
            after = of.start + _since(*listed, rows)
            of_pairs = np.maximum(_since(*listed, released.item), _since(*listed, released.partner))
            both_pairs = in_order(counted, owner[both], released, of_pairs)
            found = found._replace(rows=rows, sums=sums, after=after, pairs=both_pairs)
        return found

    def _wait(
        self,
        partition: int,
        actions: Actions,
        of: slice,
        pairs: slice,
        found: tuple[I64, U64, I64, I64, Mask],
    ) -> None:
        """Keeps the facts and pairs whose items are not `valid`."""
        owner, ids, which, number, valid = found
        n, held = of.stop - of.start, self.newest[partition]
        day = self.days[partition].setdefault(held, WaitingDay())
        imported = actions.flags[of] & IMPORTED != 0
        limits = self.limits[:2]
        # in the order of the log: an action's item comes before its partners
        missing = np.flatnonzero(~valid)
        where = np.concatenate([np.arange(n) + (np.cumsum(actions.pairs[of]) - actions.pairs[of]),
                                owner + 1 + np.arange(len(owner))])  # fmt: skip
        missing = missing[np.argsort(where[missing])]
        at = np.concatenate([np.arange(n), owner])
        codes = np.where(valid, number | LISTED, -1)
        codes[missing] = day.admit(ids[which[missing]], imported[at[missing]], limits)
        waits = ~valid[:n] & (codes[:n] >= 0)
        self.over_limit[0] += int(np.sum(~valid[:n] & (codes[:n] < 0)))
        item, partner = codes[:n], codes[n:]
        kept = (~valid[n:] | ~valid[:n][owner]) & (partner >= 0) & (item[owner] >= 0)
        kind = np.where(waits, actions.action[of] | COUNTS, 0).astype(np.uint8)
        self.over_limit[1] += day.add(
            (np.maximum(item, 0).astype(np.uint32), actions.time[of], kind, imported),
            owner[kept],
            partner[kept].astype(np.uint32),
            actions.lag[pairs][kept],
            limits,
        )
        day.settle(self.popularity)

    def _take_back(self, partition: int, item: U64, time: int, action: int) -> None:
        """Takes a fact back: out of the newest day that has a row of its item; where none has one, the fact
        is gone, and nothing changes."""
        for _, day in sorted(self.days[partition].items(), reverse=True):
            place = int(day.find(item)[0])
            if place >= 0 and day.counted[place]:
                day.take_back(place, time, action)
                day.settle(self.popularity)
                return

    def _list(self, partition: int, ids: U64) -> Counted:
        """Lists these items."""
        numbers = self.items.of(ids)
        self.listed.mark(partition, numbers)
        rows, sums, released = self._release(partition, ids, numbers)
        none = np.empty(0, np.int64)
        return Counted(none, none, rows, sums, np.zeros(len(rows), np.int64), released)

    def _release(self, partition: int, ids: U64, numbers: I64) -> tuple[I64, F64, PairFacts]:
        """What waits no longer since these items are listed."""
        rows, sums, released = [], [], []
        for day in self.days[partition].values():
            if not len(ids) or not (day.find(ids) >= 0).any():
                continue
            dense = self.items.find(day.ids)
            dense[~self.listed.of(partition, dense)] = -1
            places, held, pairs = day.release(dense, self.popularity)
            rows.append(dense[places])
            sums.append(held)
            released.append(pairs)
        if not rows:
            return *_NO_ROWS[:2], NO_PAIRS
        return np.concatenate(rows), np.concatenate(sums), joined(*released)

    def _advance(self, partition: int, day: int) -> None:
        """The newest record time came into `day`: days that are too old go."""
        days = self.days[partition]
        if (before := days.get(self.newest[partition])) is not None:
            before.log.pack()
        self.newest[partition] = day
        for old in [each for each in days if day - each > self.limits.days]:
            del days[old]


def _since(listed: I64, since: I64, numbers: I64) -> I64:
    """(n,) the fact that listed each of these dense numbers, of `listed` (m,) that are all different; -1 of
    those that were listed before."""
    order = np.argsort(listed)
    at = np.minimum(np.searchsorted(listed, numbers, sorter=order), len(listed) - 1)
    at = order[at]
    return np.where(listed[at] == numbers, since[at], -1)
