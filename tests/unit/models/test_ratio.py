"""Ratios over people by the delta method: the theorem, a worked case, a published figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.experiments.ratio import NOTHING, Estimate, lift, ratio

Counts = NDArray[np.int64]
Z = 1.959964


def estimate(y: Counts, x: Counts) -> Estimate:
    sums = (y.sum(), x.sum(), (y * y).sum(), (x * y).sum(), (x * x).sum())
    return ratio(len(y), *map(int, sums))


def people(rng: np.random.Generator, n: int) -> tuple[Counts, Counts]:
    """Clicks and slots of n people: slots by a power law, each with a click rate of their own."""
    slots = 10 * np.minimum(1 + rng.pareto(1.5, n), 100).astype(np.int64)
    return rng.binomial(slots, rng.beta(0.5, 9.5, n)).astype(np.int64), slots


def test_one_a_a_test_in_twenty_is_significant_by_the_delta_method() -> None:
    """Both halves are the same people; a test that takes slots for the sample is wrong all the time."""
    rng, runs, n = np.random.default_rng(20261123), 600, 2000
    naive = delta = 0
    for _ in range(runs):
        (y, x), (v, w) = people(rng, n), people(rng, n)
        a, b = estimate(y, x), estimate(v, w)
        assert a.value is not None
        assert b.value is not None
        together = (y.sum() + v.sum()) / (x.sum() + w.sum())
        slots = together * (1 - together) * (1 / x.sum() + 1 / w.sum())
        naive += abs(b.value - a.value) > Z * math.sqrt(slots)
        ci = lift(a, b).interval(least=-1.0)
        assert ci is not None
        delta += not ci[0] <= 0 <= ci[1]
    # 0.05 +- 0.009 is one standard error of 600 runs
    assert 0.03 <= delta / runs <= 0.07
    assert naive / runs > 0.3


def test_nineteen_intervals_in_twenty_hold_the_truth() -> None:
    """The truth: the ratio of the population that all samples are drawn from."""
    rng, runs = np.random.default_rng(7), 600
    y, x = people(rng, 200_000)
    truth, held = y.sum() / x.sum(), 0
    for _ in range(runs):
        drawn = rng.integers(0, len(y), 2000)
        ci = estimate(y[drawn], x[drawn]).interval()
        assert ci is not None
        held += ci[0] <= truth <= ci[1]
    assert 0.93 <= held / runs <= 0.97


def test_a_worked_case_agrees() -> None:
    """Three people with (clicks, slots) (1, 2), (0, 2), (2, 6): R = 0.3, residuals 0.4, -0.6, 0.2,
    squares 0.56, so var = 3/2 * 0.56 / 100 = 0.0084."""
    found = estimate(np.array([1, 0, 2]), np.array([2, 2, 6]))
    assert found.value == 0.3
    assert found.variance == pytest.approx(0.0084, rel=1e-12)
    ci = found.interval()
    assert ci is not None
    assert ci == pytest.approx((0.3 - Z * 0.0916515, 0.3 + Z * 0.0916515), abs=1e-6)


def test_a_published_figure_agrees() -> None:
    """Ten cities in 1920 (x) and 1930 (y): Davison, Hinkley, "Bootstrap Methods and Their Application"
    (1997); R's boot prints ratio 1.52 and linear variance 0.03248701, whose divisor is n^2."""
    x = np.array([138, 93, 61, 179, 48, 37, 29, 23, 30, 2])
    y = np.array([143, 104, 69, 260, 75, 63, 50, 48, 111, 50])
    found = estimate(y, x)
    assert found.variance is not None
    assert found.value == pytest.approx(1.520312, abs=1e-6)
    # boot differentiates numerically
    assert found.variance * 9 / 10 == pytest.approx(0.03248701, rel=1e-4)


def test_the_variance_agrees_with_the_jackknife() -> None:
    y, x = people(np.random.default_rng(3), 3000)
    without_one = (y.sum() - y) / (x.sum() - x)
    jackknife = (len(y) - 1) / len(y) * ((without_one - without_one.mean()) ** 2).sum()
    assert estimate(y, x).variance == pytest.approx(jackknife, rel=0.02)


def test_the_lift_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(11)
    (y, x), (v, w) = people(rng, 1500), people(rng, 1500)
    found = lift(estimate(y, x), estimate(v, w))
    drawn = []
    for _ in range(1500):
        i, j = rng.integers(0, 1500, (2, 1500))
        drawn.append(v[j].sum() / w[j].sum() / (y[i].sum() / x[i].sum()) - 1)
    assert found.variance is not None
    assert math.sqrt(found.variance) == pytest.approx(float(np.std(drawn)), rel=0.08)


def test_without_enough_people_there_is_no_estimate_or_interval() -> None:
    assert ratio(0, 0, 0, 0, 0, 0) == NOTHING
    assert ratio(5, 0, 0, 0, 0, 0) == NOTHING  # no person was served
    assert ratio(1, 1, 4, 1, 4, 16) == Estimate(0.25)  # one person
    assert ratio(3, 0, 6, 0, 0, 12) == Estimate(0.0)  # no person clicked: no interval of width 0
    assert Estimate(0.25).interval() is None
    some = ratio(2, 1, 4, 1, 2, 8)
    assert lift(NOTHING, some) == lift(some, NOTHING) == lift(Estimate(0.0), some) == NOTHING
    assert lift(some, Estimate(0.5)) == Estimate(1.0)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=8))
def test_every_number_is_finite(counts: list[tuple[int, int]]) -> None:
    n, (y, x) = len(counts), ([c[0] for c in counts], [c[1] for c in counts])
    sums = [sum(y), sum(x)] + [
        sum(a * b for a, b in zip(*pair, strict=True)) for pair in ((y, y), (x, y), (x, x))
    ]
    found = ratio(n, *sums)
    for it in (found, lift(found, found), lift(found, Estimate(0.5, 0.1))):
        numbers = [*it, *(it.interval() or ())]
        assert all(number is None or math.isfinite(number) for number in numbers)
