"""What one partition keeps of items that it has not seen listed: of one UTC day of record time.

The facts of ids are in a log, with their pairs; where many came of few ids, they become sums, 32 B an id.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.popularity import Popularity
from models.aggregates.waiting_log import ACTION, COUNTS, TAKEN_BACK, Logged, WaitingLog
from models.aggregates.waiting_pairs import Codes, PairFacts, dense_numbers, joined
from models.arrays import F64, I64, U64, Mask
from schemas.state.tables import WINDOWS

PAIRS_PER_ID: Final = 10
"""So many pairs of an action wait for each id that may: the most partners that an action has."""
FACTS_PER_ID: Final = 4
"""Of an id on average; more become sums, as then these are smaller."""
MIN_FACTS: Final = 1000
"""As few do not become sums."""


class WaitingDay:
    """The ids in the order of their first facts. `counts`: distinct ids that came live, and imported, then
    likewise the pairs: the limits hold for them."""

    def __init__(self) -> None:
        self.ids: U64 = np.empty(0, np.uint64)
        self.counted: Mask = np.empty(0, np.bool_)
        """The id has a row of popularity, not only pairs."""
        self.sums: F64 = np.empty((0, len(WINDOWS)))
        """(at most ids, windows) what the log of facts does not have any more."""
        self.counts = [0, 0, 0, 0]
        self.log = WaitingLog()
        self._order: Codes = np.empty(0, np.uint32)

    @property
    def pairs(self) -> int:
        return self.log.pairs

    @property
    def size(self) -> int:
        """Bytes."""
        return self.log.size + sum(
            column.nbytes for column in (self.ids, self.counted, self.sums, self._order)
        )

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
        self.counted = np.concatenate([self.counted, np.zeros(len(ids), np.bool_)])

    def add(
        self,
        facts: tuple[Codes, NDArray[np.uint32], NDArray[np.uint8], Mask],
        owner: I64,
        partner: Codes,
        lag: NDArray[np.uint8],
        limits: tuple[int, int],
    ) -> int:
        """Adds actions and their pairs in the order of the log: `facts` are item, time, kind and whether
        imported, of each action, `owner` (m,) the action of each pair. Returns how many pairs came after the
        limits."""
        item, time, kind, imported = facts
        keep = np.ones(len(owner), np.bool_)
        for of in (0, 1):
            mine = np.flatnonzero(imported[owner] == of)
            room = max(0, PAIRS_PER_ID * limits[of] - self.counts[2 + of])
            keep[mine[room:]] = False
            self.counts[2 + of] += min(room, len(mine))
        pairs = np.bincount(owner[keep], minlength=len(item)).astype(np.uint8)
        counts = kind & COUNTS != 0
        self.counted[item[counts]] = True
        some = counts | (pairs > 0)
        if some.any():
            self.log.append(
                Logged(item[some], time[some], kind[some], pairs[some], partner[keep], lag[keep])
            )
        return len(owner) - int(keep.sum())

    def take_back(self, place: int, time: int, action: int) -> None:
        """Takes back a fact of the id at `place`."""
        one = Logged(
            np.array([place], np.uint32),
            np.array([time], np.uint32),
            np.array([action | COUNTS | TAKEN_BACK], np.uint8),
            np.zeros(1, np.uint8),
            np.empty(0, np.uint32),
            np.empty(0, np.uint8),
        )
        self.log.append(one)

    def sums_of(self, popularity: Popularity) -> F64:
        """(ids, windows) the sums that wait, against the landmarks of `popularity`."""
        sums = np.zeros((len(self.ids), len(WINDOWS)))
        sums[: len(self.sums)] = self.sums
        for log in self.log:
            counts = log.counts
            np.add.at(sums, log.item[counts], _terms(log, counts, popularity))
        return sums

    def settle(self, popularity: Popularity) -> None:
        """Facts become sums where they are many."""
        if self.log.facts > max(MIN_FACTS, FACTS_PER_ID * len(self.ids)):
            self.sums = self.sums_of(popularity)
            self.log.rewrite(lambda log: log.without(log.counts, np.zeros(len(log.lag), np.bool_)))

    def release(self, numbers: I64, popularity: Popularity) -> tuple[I64, F64, PairFacts]:
        """Takes out what waits no longer: places and sums of rows, and the pairs whose items are both listed.
        `numbers` (ids,): the dense number of each id of this day, -1 while it is not listed."""
        rows = np.flatnonzero((numbers >= 0) & self.counted)
        row = np.full(len(self.ids), -1, np.int32)
        row[rows] = np.arange(len(rows))
        sums, released = np.zeros((len(rows), len(WINDOWS))), []
        settled = rows[: np.searchsorted(rows, len(self.sums))]
        sums[: len(settled)] = self.sums[settled]
        self.sums[settled], self.counted[rows] = 0, False

        def take(log: Logged) -> Logged | None:
            facts = log.counts
            facts[facts] = row[log.item[facts]] >= 0
            np.add.at(sums, row[log.item[facts]], _terms(log, facts, popularity))
            owner = np.repeat(np.arange(len(log.item)), log.pairs)
            item = dense_numbers(log.item, numbers)[owner]
            partner = dense_numbers(log.partner, numbers)
            due = (item >= 0) & (partner >= 0)
            if not facts.any() and not due.any():
                return None
            time = log.time[owner[due]].astype(np.float64)
            released.append(PairFacts(item[due], partner[due], time, log.lag[due]))
            return log.without(facts, due)

        self.log.rewrite(take)
        # what was taken back of another day's action may exceed what this day holds
        return rows, np.maximum(sums, 0), joined(*released)

    @classmethod
    def of(
        cls, counts: list[int], ids: U64, counted: Mask, sums: F64, log: WaitingLog
    ) -> WaitingDay:
        """As its attributes were."""
        day = cls()
        day.counts, day.ids, day.counted, day.sums, day.log = counts, ids, counted, sums, log
        day._order = np.argsort(ids).astype(np.uint32)
        return day


def _terms(log: Logged, which: Mask, popularity: Popularity) -> F64:
    kind = log.kind[which]
    return popularity.terms_of(
        (kind & ACTION).astype(np.uint8), log.time[which], kind & TAKEN_BACK != 0
    )
