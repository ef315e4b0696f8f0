"""All sums over people, added up one fact after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import exp2
from operator import add
from typing import Any, Final

from models.aggregates.covisit import PAIR_HALF_LIFE
from models.aggregates.popularity import GAIN, HALF_LIVES
from models.features.plain import Event
from models.reference.outcomes import ReferenceOutcomes
from models.reference.recents import Partners, facts
from schemas.state.counting import LAG_POWERS
from schemas.state.facts import LAG, SAME_SESSION
from schemas.state.tables import PairCounting

PairColumns = list[float]
"""The sums of a pair under each of `LAG_POWERS`: within one session, then beyond it."""
PAIR_COLUMNS: Final = 2 * len(LAG_POWERS)
WINDOW_COUNT: Final = len(HALF_LIVES)
_GAIN: Final = GAIN.tolist()
_RATES: Final = [1 / half_life for half_life in HALF_LIVES.values()]
_NEARNESS: Final = [[0.0, *(lag**-power for lag in range(1, 17))] for power in LAG_POWERS]
_MAX_HALF_LIVES: Final = 1000.0
"""Half-lives from landmark to fact; a float overflows beyond."""


def grown(seconds: float, half_life: float) -> float:
    """2^(t / half-life). Underflow is 0."""
    return exp2(min(seconds / half_life, _MAX_HALF_LIVES))


class Landmarks:
    """The landmarks (s) of the sums: of the popularity of items, of pairs."""

    def __init__(self, items: Sequence[float], pairs: float) -> None:
        self.items, self.pairs = tuple(items), pairs

    @classmethod
    def at(cls, now: float) -> Landmarks:
        """One landmark for all: sums as of `now` (s)."""
        return cls([now] * WINDOW_COUNT, now)


MomentSums = tuple[int, list[int], list[list[int]]]
"""Moments of a variant: people, sums of their counts, sums of the products of two."""


class Sums:
    """`popularity`: a sum for each window, by item hash; `pairs`: by the hash of the item visited first, then
    of the other one, the `PairColumns`; `arms`: slots by state, and those served by exploration; `money`:
    purchases, quantity and amount by currency. `taken_back`: by item hash, what was subtracted."""

    def __init__(self, marks: Landmarks) -> None:
        self.marks = marks
        self.popularity: dict[int, list[float]] = {}
        self.taken_back: dict[int, list[float]] = {}
        self.pairs: dict[int, dict[int, PairColumns]] = {}
        self.arms: dict[tuple[int, int], list[int]] = {}
        self.units: dict[tuple[int, int, int], Counter[tuple[int, ...]]] = {}
        """By experiment, version and variant: the number of people with these counts. It is one less for the
        earlier counts of a person who was counted before the first fact."""
        self.before: dict[tuple[int, int, int], MomentSums] = {}
        """The moments before the first fact."""
        self.money: dict[int, list[int]] = {}
        self._at = -1
        self._terms: tuple[list[float], float] = ([], 0.0)

    def add(self, actions: Sequence[Event]) -> None:
        """Adds the actions of one person."""
        for e, partners in facts(actions):
            self.fact(e, partners)

    def fact(self, e: Event, partners: Partners) -> None:
        _plus(self.popularity, e.item, self.terms(e.time // 1000, e.action))
        for partner, lag in partners:
            self.pair(e.item, partner, e.time // 1000, lag)

    def terms(self, time: int, action: int) -> list[float]:
        """What an action at `time` (s) adds to each column."""
        gain = _GAIN[action]
        return [gain * term for term in self._growth(time)[0]]

    def row(self, item: int, terms: list[float], *, back: bool = False) -> None:
        """Adds to an item's row; `back`: it takes back what was counted."""
        _plus(self.popularity, item, terms)
        if back:
            _plus(self.taken_back, item, [-term for term in terms])

    def pair(self, item: int, partner: int, time: int, lag: int) -> None:
        """Adds an action at `time` (s) on `item`, `lag` after one on `partner`."""
        weight, at = self._growth(time)[1], 0 if lag & SAME_SESSION else len(LAG_POWERS)
        terms = [0.0] * PAIR_COLUMNS
        for power, nearness in enumerate(_NEARNESS):
            terms[at + power] = nearness[lag & LAG] * weight
        _plus(self.pairs.setdefault(partner, {}), item, terms)

    def slots(self, outcomes: ReferenceOutcomes) -> None:
        """Adds the facts of one person's slates; what they take back is `WaitingReference.back`'s."""
        arms: Any = outcomes.arms
        for _, placement, item, state, explored, sign, _ in arms:
            arm = self.arms.get((placement, item))
            if arm is None:
                arm = self.arms[placement, item] = [0] * 7
            arm[state] += sign
            if explored and state == 0:
                arm[6] += 1
        moments: Any = outcomes.moments
        for _, experiment, version, variant, before, after in moments:
            counts = self.units.get((experiment, version, variant))
            if counts is None:
                counts = self.units[experiment, version, variant] = Counter()
            counts[after] += 1
            counts[before] -= any(before)
        money: Any = outcomes.money
        for _, _, currency, amount, quantity, purchases in money:
            held = self.money.setdefault(currency, [0, 0, 0])
            self.money[currency] = list(map(add, held, (purchases, quantity, amount)))

    @classmethod
    def of(cls, partitions: Iterable[Sums]) -> Sums:
        """The sums of all partitions, which have the same landmarks."""
        first, *more = partitions
        total = cls(first.marks)
        for one in (first, *more):
            total._take(one)
        return total

    def partners(self, counting: PairCounting) -> dict[int, dict[int, tuple[float, float]]]:
        """item -> partner -> the sums of (item, partner) and of (partner, item) under `counting`."""
        at = LAG_POWERS.index(counting.lag_power)
        beyond = 1.0 if counting.gap == "any" else 0.0
        found: dict[int, dict[int, tuple[float, float]]] = {}
        for first, theirs in self.pairs.items():
            for second, columns in theirs.items():
                sum_ = columns[at] + beyond * columns[len(LAG_POWERS) + at]
                forward, backward = found.setdefault(first, {}).get(second, (0.0, 0.0))
                found[first][second] = forward + sum_, backward
                forward, backward = found.setdefault(second, {}).get(first, (0.0, 0.0))
                found[second][first] = forward, backward + sum_
        return found

    def _take(self, other: Sums) -> None:
        for key, sums in other.popularity.items():
            _plus(self.popularity, key, sums)
        for key, sums in other.taken_back.items():
            _plus(self.taken_back, key, sums)
        for item, theirs in other.pairs.items():
            if item not in self.pairs:
                self.pairs[item] = dict(theirs)
                continue
            for partner, columns in theirs.items():
                _plus(self.pairs[item], partner, columns)
        for arm, slots in other.arms.items():
            held = self.arms.get(arm, [0] * 7)
            self.arms[arm] = [a + b for a, b in zip(held, slots, strict=True)]
        for unit, tally in other.units.items():
            units = self.units.setdefault(unit, Counter())
            for state, n in tally.items():
                units[state] += n
        for unit, before in other.before.items():
            self.before[unit] = _plus_moments(self.before.get(unit), before)

        for currency, theirs_ in other.money.items():
            ours_ = self.money.get(currency, [0, 0, 0])
            self.money[currency] = list(map(add, ours_, theirs_))

    def moments(self) -> dict[tuple[int, int, int], MomentSums]:
        """(experiment, version, variant) -> moments."""
        moments = {unit: _moments(counts) for unit, counts in self.units.items()}
        for unit, held in self.before.items():
            moments[unit] = _plus_moments(moments.get(unit), held)
        return moments

    def _growth(self, at: int) -> tuple[list[float], float]:
        """The weight of a fact at `at` (s) in each column, and of a pair."""
        if at != self._at:
            marks = self.marks
            self._at = at
            self._terms = (_terms(marks.items, at), grown(at - marks.pairs, PAIR_HALF_LIFE))
        return self._terms


def _terms(landmarks: Sequence[float], at: int) -> list[float]:
    """`grown` since each landmark, with the half-life of its window."""
    return [
        exp2(age) if (age := (at - mark) * rate) < _MAX_HALF_LIVES else exp2(_MAX_HALF_LIVES)
        for mark, rate in zip(landmarks, _RATES, strict=True)
    ]


def _plus(held: dict[int, list[float]], key: int, terms: list[float]) -> None:
    sums = held.get(key)
    # rows are replaced, never changed: two tables may share one
    held[key] = terms if sums is None else list(map(add, sums, terms))


def _plus_moments(one: MomentSums | None, other: MomentSums) -> MomentSums:
    if one is None:
        return other
    return (
        one[0] + other[0],
        [a + b for a, b in zip(one[1], other[1], strict=True)],
        [
            [a + b for a, b in zip(mine, theirs, strict=True)]
            for mine, theirs in zip(one[2], other[2], strict=True)
        ],
    )


def _moments(units: Counter[tuple[int, ...]]) -> MomentSums:
    states = range(6)
    return (
        units.total(),
        [sum(n * counts[i] for counts, n in units.items()) for i in states],
        [
            [sum(n * counts[i] * counts[j] for counts, n in units.items()) for j in states]
            for i in states
        ],
    )
