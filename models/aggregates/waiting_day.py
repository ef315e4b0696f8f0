"""What one partition keeps of items that it has not seen listed: of one UTC day of record time.

A row an id has the sums of popularity; a row an action has its pairs that wait. An item of a pair is a
code of 32 bits: the place of an id of this day, or `LISTED` with the item's dense number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.waiting_pairs import NO_PAIRS, Codes, PairFacts, dense_numbers
from models.arrays import F64, I64, U64, Mask
from schemas.state.tables import WINDOWS

PAIRS_PER_ID: Final = 10
"""So many pairs of an action wait for each id that may: the most partners that an action has."""


class WaitingDay:
    """The ids in the order of their first facts. `counts`: distinct ids that came live, and imported, then
    likewise the pairs: the limits hold for them."""

    def __init__(self) -> None:
        self.ids: U64 = np.empty(0, np.uint64)
        self.sums: F64 = np.empty((0, len(WINDOWS)))
        self.counted: Mask = np.empty(0, np.bool_)
        """The id has a row of popularity, not only pairs."""
        self.counts = [0, 0, 0, 0]
        self._order: Codes = np.empty(0, np.uint32)
        self._item: Codes = np.empty(0, np.uint32)
        self._time = np.empty(0, np.uint32)
        self._pairs = np.empty(0, np.uint8)
        self._partner: Codes = np.empty(0, np.uint32)
        self._lag = np.empty(0, np.uint8)

    @property
    def pairs(self) -> int:
        return len(self._partner)

    def find(self, ids: U64) -> I64:
        """(n,) the place of each id; -1 where it has none."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        at = np.searchsorted(self.ids, ids, sorter=self._order)
        place = self._order[np.minimum(at, len(self.ids) - 1)].astype(np.int64)
        return np.where(self.ids[place] == ids, place, -1)

    def admit(self, ids: U64, imported: Mask, limits: tuple[int, int]) -> I64:
        """(n,) the place of the id of each fact, in the order of the log; -1 where it came after the first
        `limits` distinct ids of its kind (live, imported)."""
        places = self.find(ids)
        rest = np.flatnonzero(places < 0)
        if not len(rest):
            return places
        new, which = np.unique(ids[rest], return_inverse=True)
        since = self._admitted(which, imported[rest], limits, len(new))
        entered = np.flatnonzero(since < len(rest))
        entered = entered[np.argsort(since[entered])]
        place = np.full(len(new), -1, np.int64)
        place[entered] = len(self.ids) + np.arange(len(entered))
        places[rest] = np.where(np.arange(len(rest)) >= since[which], place[which], -1)
        self._append(new[entered])
        return places

    def _admitted(self, which: I64, imported: Mask, limits: tuple[int, int], many: int) -> I64:
        """(many,) the fact that admits each new id; the number of facts where none does."""
        never = len(which)
        first = np.full((2, many), never)
        for kind in (0, 1):
            mine = np.flatnonzero(imported == kind)
            np.minimum.at(first[kind], which[mine], mine)
        earliest = first.min(axis=0)
        kinds = (first[1] < first[0]).astype(np.intp)
        if all(np.sum(kinds == kind) <= limits[kind] - self.counts[kind] for kind in (0, 1)):
            self.counts[0] += int(np.sum(kinds == 0))
            self.counts[1] += int(np.sum(kinds == 1))
            return np.asarray(earliest, np.int64)
        # one of the limits is reached: an id that came too late of one kind may enter by the other
        since = np.full(many, never)
        firsts = [
            (int(first[kind, n]), kind, n)
            for kind in (0, 1)
            for n in np.flatnonzero(first[kind] < never).tolist()
        ]
        for at, kind, n in sorted(firsts):
            if since[n] == never and self.counts[kind] < limits[kind]:
                since[n] = at
                self.counts[kind] += 1
        return since

    def _append(self, ids: U64) -> None:
        n = len(self.ids)
        order = np.argsort(ids)
        at = np.searchsorted(self.ids, ids[order], sorter=self._order)
        self._order = np.insert(self._order, at, (n + order).astype(np.uint32))
        self.ids = np.concatenate([self.ids, ids])
        self.sums = np.concatenate([self.sums, np.zeros((len(ids), len(WINDOWS)))])
        self.counted = np.concatenate([self.counted, np.zeros(len(ids), np.bool_)])

    def add(self, place: I64, terms: F64) -> None:
        """Adds the terms (n, windows) of facts to the rows at `place` (n,)."""
        self.counted[place] = True
        np.add.at(self.sums, place, terms)

    def add_pairs(
        self,
        facts: tuple[Codes, NDArray[np.uint32], Mask],
        owner: I64,
        partner: Codes,
        lag: NDArray[np.uint8],
        limits: tuple[int, int],
    ) -> int:
        """Adds pairs in the order of the log: `facts` are item, time and whether imported, of each action,
        `owner` (m,) the action of each pair. Returns how many came after the limits."""
        item, time, imported = facts
        keep = np.ones(len(owner), np.bool_)
        for kind in (0, 1):
            mine = np.flatnonzero(imported[owner] == kind)
            room = max(0, PAIRS_PER_ID * limits[kind] - self.counts[2 + kind])
            keep[mine[room:]] = False
            self.counts[2 + kind] += min(room, len(mine))
        pairs = np.bincount(owner[keep], minlength=len(item))
        some = pairs > 0
        self._item = np.concatenate([self._item, item[some]])
        self._time = np.concatenate([self._time, time[some]])
        self._pairs = np.concatenate([self._pairs, pairs[some].astype(np.uint8)])
        self._partner = np.concatenate([self._partner, partner[keep]])
        self._lag = np.concatenate([self._lag, lag[keep]])
        return len(owner) - int(keep.sum())

    def release(self, numbers: I64) -> tuple[I64, F64, PairFacts]:
        """Takes out what waits no longer: places and sums of rows, and the pairs whose items are both listed.
        `numbers` (ids,): the dense number of each id of this day, -1 while it is not listed."""
        rows = np.flatnonzero((numbers >= 0) & self.counted)
        # what was taken back of another day's action may exceed what this day holds
        sums = np.maximum(self.sums[rows], 0)
        self.counted[rows], self.sums[rows] = False, 0
        owner = np.repeat(np.arange(len(self._item)), self._pairs)
        item, partner = (
            dense_numbers(self._item, numbers)[owner],
            dense_numbers(self._partner, numbers),
        )
        due = (item >= 0) & (partner >= 0)
        if not due.any():
            return rows, sums, NO_PAIRS
        time = self._time[owner[due]].astype(np.float64)
        released = PairFacts(item[due], partner[due], time, self._lag[due])
        pairs = np.bincount(owner[~due], minlength=len(self._item))
        some = pairs > 0
        self._item, self._time = self._item[some], self._time[some]
        self._pairs = pairs[some].astype(np.uint8)
        self._partner, self._lag = self._partner[~due], self._lag[~due]
        return rows, sums, released

    def columns(self) -> dict[str, NDArray[Any]]:
        """What is stored of it, as `of` takes it."""
        return {
            "ids": self.ids,
            "sums": self.sums,
            "counted": self.counted,
            "item": self._item,
            "time": self._time,
            "pairs": self._pairs,
            "partner": self._partner,
            "lag": self._lag,
        }

    @classmethod
    def of(cls, counts: list[int], held: Mapping[str, NDArray[Any]]) -> WaitingDay:
        day = cls()
        day.counts = counts
        day.ids, day.sums, day.counted = held["ids"], held["sums"], held["counted"]
        day._order = np.argsort(day.ids).astype(np.uint32)
        day._item, day._time, day._pairs = held["item"], held["time"], held["pairs"]
        day._partner, day._lag = held["partner"], held["lag"]
        return day
