"""Interval estimates: defined for every sample, deterministic, and as wide as its number of people asks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from models.arrays import F64, I64
from models.evaluation import intervals
from models.evaluation.intervals import (
    IntervalEstimate,
    Resamples,
    mean,
    needed,
    ratio,
    weighted_mean,
)


def people(number: int, seed: int) -> tuple[I64, F64, F64]:
    """Choices of `number` people, 1 to 8 each: whose, and the correlated gains of two arms of equal means. A
    person's choices are alike."""
    chance = np.random.default_rng(seed)
    each = chance.integers(1, 9, number)
    person = np.repeat(np.arange(number), each)
    taste = np.repeat(chance.beta(1, 4, number), each)
    one, other = chance.random((2, len(person))) < taste
    either = chance.random(len(person)) < 0.5
    return person, np.where(either, one, other) * 1.0, one * 1.0


def test_an_interval_is_a_function_of_its_arguments() -> None:
    person, one, other = people(40, 0)
    assert ratio(one, other, person, seed=5) == ratio(one, other, person, seed=5)
    uneven = one + np.arange(len(one)) / 1_000
    assert mean(uneven, person, seed=5) != mean(uneven, person, seed=6)
    # the ids say only whose choices are one person's, and their order nothing
    names = np.array([f"p{it:03}" for it in person])
    mixed = np.random.default_rng(0).permutation(len(person))
    assert mean(one, names, seed=5) == mean(one[mixed], person[mixed], seed=5)


def test_blocks_of_rounds_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    person, one, other = people(40, 0)
    whole = ratio(one, other, person)
    monkeypatch.setattr(intervals, "MAX_CELLS", 1_000)
    assert ratio(one, other, person) == whole


def test_a_round_draws_people_with_replacement() -> None:
    """Of two people the mean is one's, the other's, or both's, with the chances of the binomial."""
    sums = Resamples(np.array([0, 1]), {"x": np.array([0.0, 1.0])}, rounds=8_000)
    values, times = np.unique(sums._rounds[:, 1], return_counts=True)
    assert values.tolist() == [0, 1, 2]
    assert times == pytest.approx([2_000, 4_000, 2_000], abs=200)


def test_what_has_no_interval_has_none_and_is_no_nan() -> None:
    empty = np.empty(0)
    assert mean(empty, empty) == ratio(empty, empty, empty) == IntervalEstimate(None)
    alone = np.array([1.0, 0.0])
    assert mean(alone, np.array([3, 3])) == IntervalEstimate(0.5)  # one person
    assert mean(alone[:1], np.array([3])) == IntervalEstimate(1.0)  # one choice
    nothing, person = np.zeros(30), np.arange(30)
    assert mean(nothing, person) == IntervalEstimate(0.0, 0.0, 0.0)
    assert (
        ratio(nothing, nothing, person)
        == ratio(nothing + 1, nothing, person)
        == IntervalEstimate(None)
    )
    assert ratio(nothing, nothing + 1, person) == IntervalEstimate(0.0, 0.0, 0.0)
    rare = np.where(person == 7, 1.0, 0.0)  # in a third of the rounds not drawn
    found = ratio(nothing + 1, rare, person)
    assert (found.value, found.upper) == (30.0, None)
    assert found.lower is not None
    assert 5 < found.lower < 15
    same = ratio(rare, rare, person)
    assert (same.value, same.lower, same.upper) == (1.0, 0.0, None)  # a third says nothing at all


def test_an_arm_against_itself_has_no_width() -> None:
    person, one, _ = people(40, 0)
    assert ratio(one, one, person) == IntervalEstimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(("number", "within"), [(50, 0.2), (400, 0.1)])
def test_the_width_is_that_of_the_delta_method(number: int, within: float) -> None:
    person, one, other = people(number, 3)
    found = ratio(one, other, person)
    y, x = (np.bincount(person, it) for it in (one, other))
    r = y.sum() / x.sum()
    error = math.sqrt(number / (number - 1) * ((y - r * x) ** 2).sum()) / x.sum()
    assert found.value == pytest.approx(r)
    assert found.lower is not None
    assert found.upper is not None
    assert (found.upper - found.lower) / (2 * 1.96 * error) == pytest.approx(1, abs=within)


def test_a_weighted_mean_of_equal_weights_is_the_mean() -> None:
    person, one, _ = people(40, 0)
    assert weighted_mean(one, np.full(len(one), 4.0), person) == mean(one, person)
    weights = np.where(person < 20, 1.0, 3.0)
    wanted = (one * weights).sum() / weights.sum()
    assert weighted_mean(one, weights, person).value == pytest.approx(wanted)
    assert weighted_mean(one, 0 * weights, person) == IntervalEstimate(None)


def test_the_choices_needed_are_those_that_narrow_the_interval_enough() -> None:
    person, one, other = people(100, 4)
    found = ratio(one, other, person)
    many = needed(found, len(person), margin=0.05)
    assert many is not None
    person, one, other = people(round(100 * many / len(person)), 5)
    narrow = ratio(one, other, person)
    assert narrow.value is not None
    assert narrow.lower is not None
    assert narrow.value - narrow.lower == pytest.approx(0.05, rel=0.3)
    assert needed(IntervalEstimate(1.0), 100, 0.05) is None
    assert needed(found, 100, 0.0) is None


def test_few_people_have_a_wider_interval() -> None:
    tails = [intervals._tail(0.95, people) for people in (2, 3, 5, 20, 1_000_000)]
    assert all(a < b for a, b in itertools.pairwise(tails))
    assert tails[-1] == pytest.approx(0.025, abs=1e-4)


@pytest.mark.check
@pytest.mark.parametrize("number", [25, 64, 400])
def test_nineteen_intervals_of_twenty_hold_the_truth(number: int) -> None:
    """Of the mean, of the ratio of two equal arms, and of the weighted mean. 1,000 samples have a standard
    error of .007."""
    truth = {"mean": 0.2, "ratio": 1.0, "weighted": 0.2}
    held, samples = dict.fromkeys(truth, 0), 1_000
    for seed in range(samples):
        person, one, other = people(number, seed)
        weights = np.where(person % 3, 1.0, 2.0)
        columns = {"one": one, "other": other, "weighted": weights * one, "weights": weights}
        sums = Resamples(person, columns, seed, rounds=500)
        found = {
            "mean": sums.mean("one"),
            "ratio": sums.ratio("one", "other"),
            "weighted": sums.ratio("weighted", "weights"),
        }
        for name, it in found.items():
            assert it.lower is not None
            held[name] += it.lower <= truth[name] <= (it.upper or math.inf)
    for name, times in held.items():
        assert 0.93 <= times / samples <= 0.975, name
