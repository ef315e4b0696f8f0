"""Interval estimates by the bootstrap over people: means, weighted means, and paired ratios of means.

Choices of one person are correlated, so a round draws people with all their choices: of n people n, with
replacement. Every statistic here is a ratio of two sums over choices, so a round needs each person's sums and
how often it drew them. Efron, Tibshirani 1993, "An Introduction to the Bootstrap", 13; Owen, Eckles 2012,
"Bootstrapping data arrays of arbitrary order" (why the unit is the person).

The ends are percentiles of the rounds, at levels widened for few people by Student's t: "expanded percentile
interval", Hesterberg 2015, "What Teachers Should Know About the Bootstrap", 3.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.arrays import F64

ROUNDS: Final = 2_000
LEVEL: Final = 0.95
MAX_CELLS: Final = 2_000_000
"""Of people times rounds that are drawn at once: 16 MB."""
Persons = NDArray[Any]
"""(G,) whose choice each is: any ids that numpy sorts."""
_COUNT: Final = ""


class IntervalEstimate(msgspec.Struct, frozen=True):
    """`value` None: the denominator is 0. An end None: with one person, or none, there is no interval; an
    upper end None beside a lower one: without bound, as the denominator is 0 in too many rounds. Never NaN.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None


UNDEFINED: Final = IntervalEstimate(None)


class Resamples:
    """The sums of some columns over all choices, and in each round. Columns of one object are paired: a round
    draws the same people for all of them.

    >>> gains = {"new": np.array([1.0, 0.5, 1.0]), "old": np.array([0.5, 0.5, 1.0])}
    >>> sums = Resamples(np.array(["ann", "ann", "bob"]), gains)
    >>> sums.mean("new").value, sums.ratio("new", "old")
    (0.8333333333333334, IntervalEstimate(value=1.25, lower=1.0, upper=1.5))
    """

    def __init__(
        self, person: Persons, columns: Mapping[str, F64], seed: int = 0, rounds: int = ROUNDS
    ) -> None:
        """`columns`: each (G,), without NaN; `person` (G,). The same arguments give the same values."""
        ids, index = np.unique(person, return_inverse=True)
        table = [np.ones(len(person)), *(np.asarray(it, np.float64) for it in columns.values())]
        by_person: F64 = np.column_stack([np.bincount(index, it, len(ids)) for it in table])
        self.people = len(ids)
        self._column = {name: at for at, name in enumerate((_COUNT, *columns))}
        self._totals = by_person.sum(axis=0)
        self._rounds = _resample(by_person, np.random.default_rng(seed), rounds)

    def mean(self, name: str, level: float = LEVEL) -> IntervalEstimate:
        """Of the choices: people with more of them weigh more."""
        return self.ratio(name, _COUNT, level)

    def ratio(self, name: str, other: str, level: float = LEVEL) -> IntervalEstimate:
        """sum(`name`) / sum(`other`), which are >= 0: the paired ratio of the means of two arms, or, of
        columns w x and w, the mean of x weighted by w. A round in which both sums are 0 says nothing: for the
        lower end it counts as 0, for the upper one as without bound."""
        at, by = self._column[name], self._column[other]
        if not self._totals[by]:
            return UNDEFINED
        value = float(self._totals[at] / self._totals[by])
        if self.people < 2:
            return IntervalEstimate(value)
        above, below = self._rounds[:, at], self._rounds[:, by]
        empty = below == 0
        ratios = np.where(empty, np.inf, above / np.where(empty, 1.0, below))
        tail = _tail(level, self.people)
        lower = _quantile(np.where(empty & (above == 0), 0.0, ratios), tail)
        upper = _quantile(ratios, 1 - tail)
        return IntervalEstimate(value, lower, upper)


def mean(values: F64, person: Persons, seed: int = 0, rounds: int = ROUNDS) -> IntervalEstimate:
    """The mean of `values` (G,); (0 or 1 person: no interval)."""
    return Resamples(person, {"values": values}, seed, rounds).mean("values")


def ratio(
    values: F64, others: F64, person: Persons, seed: int = 0, rounds: int = ROUNDS
) -> IntervalEstimate:
    """The paired ratio of the means of `values` and `others`, both (G,) and >= 0, of the same choices."""
    return Resamples(person, {"of": values, "to": others}, seed, rounds).ratio("of", "to")


def weighted_mean(
    values: F64, weights: F64, person: Persons, seed: int = 0, rounds: int = ROUNDS
) -> IntervalEstimate:
    """sum(w x) / sum(w), both (G,), weights >= 0."""
    return ratio(values * weights, weights, person, seed, rounds)


def needed(estimate: IntervalEstimate, n: int, margin: float) -> int | None:
    """The choices, at as many a person as these n, with which the longer arm of the interval is `margin`: the
    standard error falls with the root of the number of people. None where there is no interval.

    >>> needed(IntervalEstimate(1.02, 0.95, 1.09), 1_500, margin=0.02)
    18375
    """
    if estimate.value is None or estimate.lower is None or estimate.upper is None or margin <= 0:
        return None
    arm = max(estimate.value - estimate.lower, estimate.upper - estimate.value)
    return math.ceil(n * (arm / margin) ** 2 - 1e-6)


def _resample(by_person: F64, random: np.random.Generator, rounds: int) -> F64:
    """(rounds, C) sums of the rows (people, C) that each round draws."""
    people = len(by_person)
    sums = np.zeros((rounds, by_person.shape[1]))
    if people < 2:
        return sums
    step = max(1, MAX_CELLS // people)
    for begin in range(0, rounds, step):
        size = min(step, rounds - begin)
        drawn = random.integers(0, people, (size, people), dtype=np.int64)
        drawn += np.arange(size)[:, None] * people
        times = np.bincount(drawn.ravel(), minlength=size * people).reshape(size, people)
        sums[begin : begin + size] = times.astype(np.float64) @ by_person
    return sums


def _tail(level: float, people: int) -> float:
    """The share of rounds beyond one end: the normal law's, at Student's quantile for `people` - 1 degrees of
    freedom (Abramowitz, Stegun 26.7.5) times the root of n / (n - 1)."""
    law, free = NormalDist(), people - 1
    z = law.inv_cdf((1 + level) / 2)
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return law.cdf(-t * math.sqrt(people / free))


def _quantile(values: F64, share: float) -> float | None:
    """Without interpolation, which has no value between a number and infinity."""
    found = float(np.quantile(values, share, method="inverted_cdf"))
    return found if math.isfinite(found) else None
