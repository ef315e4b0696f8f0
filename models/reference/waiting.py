"""Facts of items that one partition has not seen listed, one after the other: as
`models.aggregates.waiting`."""

from __future__ import annotations

from collections.abc import Container
from operator import add
from typing import Final

from models.aggregates.waiting import LIMITS, Limits
from models.features.plain import Event
from models.reference.recents import Partners
from models.reference.sums import Sums

PAIRS_PER_ID: Final = 10
PairWaiting = tuple[int, int, int, int]
"""(item, partner, time in s, lag)."""


class DayWaiting:
    """One UTC day: `rows` of sums by item; `pairs` by an item that is not listed; distinct ids; `counts` of
    ids and pairs, live and imported."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.rows: dict[int, list[float]] = {}
        self.pairs: dict[int, list[PairWaiting]] = {}
        self.counts = [0, 0, 0, 0]

    def admits(self, item: int, kind: int, limits: Limits) -> bool:
        if item not in self.ids and self.counts[kind] < limits[kind]:
            self.ids.add(item)
            self.counts[kind] += 1
        return item in self.ids

    def wait(self, pair: PairWaiting, listed: Container[int]) -> bool:
        """Keeps the pair while one of its items is not `listed`; False where both are."""
        missing = next((item for item in pair[:2] if item not in listed), None)
        if missing is not None:
            self.pairs.setdefault(missing, []).append(pair)
        return missing is not None


class WaitingReference:
    """`day`: of the partition's newest record time; `over_limit`: facts, and pairs, beyond the limits."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits, self.day = limits, 0
        self.listed: set[int] = set()
        self.days: dict[int, DayWaiting] = {}
        self.over_limit = [0, 0]
        self.taken_back: list[float] = []
        """The sums of all that was taken back of what waits."""

    def advance(self, day: int) -> None:
        """The newest record time is in `day`."""
        if day > self.day:
            self.day = day
            for old in [held for held in self.days if day - held > self.limits.days]:
                del self.days[old]

    def include(self, item: int, sums: Sums) -> None:
        """The item is listed from here on: its facts go to `sums`."""
        if item in self.listed:
            return
        self.listed.add(item)
        for day in self.days.values():
            row = day.rows.pop(item, None)
            if row is not None:
                sums.row(item, [max(held, 0.0) for held in row])
            for pair in day.pairs.pop(item, ()):
                if not day.wait(pair, self.listed):
                    sums.pair(*pair)

    def fact(self, e: Event, partners: Partners, sums: Sums) -> None:
        """An action that counts, with its partners."""
        if e.in_catalogue:
            self.include(e.item, sums)
        kind = int(e.imported)
        counts = e.item in self.listed
        day = self.days.get(self.day)
        if day is None and not (counts and all(it in self.listed for it, _ in partners)):
            day = self.days[self.day] = DayWaiting()
        waits = False
        if counts:
            sums.fact(e, [pair for pair in partners if pair[0] in self.listed])
        else:
            assert day is not None
            waits = day.admits(e.item, kind, self.limits)
            if waits:
                _plus(day.rows, e.item, sums.terms(e.time // 1000, e.action))
            else:
                self.over_limit[0] += 1
        for partner, lag in partners:
            if counts and partner in self.listed:
                continue
            assert day is not None
            admitted = partner in self.listed or day.admits(partner, kind, self.limits)
            if not admitted or not (counts or waits):
                continue
            if day.counts[2 + kind] >= PAIRS_PER_ID * self.limits[kind]:
                self.over_limit[1] += 1
                continue
            day.counts[2 + kind] += 1
            day.wait((e.item, partner, e.time // 1000, lag), self.listed)

    def back(self, item: int, time: int, action: int, sums: Sums) -> None:
        """The fact of an action at `time` (s) is taken back; its pairs stay."""
        terms = [-term for term in sums.terms(time, action)]
        if item in self.listed:
            sums.row(item, terms, back=True)
            return
        for _, day in sorted(self.days.items(), reverse=True):
            if item in day.rows:
                _plus(day.rows, item, terms)
                gross = self.taken_back or [0.0] * len(terms)
                self.taken_back = [held - term for held, term in zip(gross, terms, strict=True)]
                return

    def rows(self) -> dict[tuple[int, int], list[float]]:
        """(day, item) -> sums that wait."""
        return {(n, item): row for n, day in self.days.items() for item, row in day.rows.items()}

    def counts(self) -> dict[str, int]:
        """How much waits."""
        return {
            "waiting_items": sum(len(day.rows) for day in self.days.values()),
            "waiting_pairs": sum(
                len(pairs) for day in self.days.values() for pairs in day.pairs.values()
            ),
            "unknown_over_limit": self.over_limit[0],
            "pairs_over_limit": self.over_limit[1],
        }


def _plus(rows: dict[int, list[float]], item: int, terms: list[float]) -> None:
    held = rows.get(item)
    rows[item] = terms if held is None else list(map(add, held, terms))
