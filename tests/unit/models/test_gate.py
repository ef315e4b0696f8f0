"""The gate: what it releases, refuses and cannot decide, over simulated people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import F64, I64
from models.evaluation import gate
from models.evaluation.gate import BUILT_IN, COARSE, RANKER, Condition, at_most, judge
from models.evaluation.ranking import gains

GOOD = gains(np.tile([1, 2, 0, 5], 50))
WORSE = gains(np.tile([2, 3, 0, 5], 50))
PERSON = np.arange(200) // 4
FIRST = PERSON < 25


def test_the_gate_releases_what_is_not_below_anything() -> None:
    assert judge(RANKER, {RANKER: GOOD, COARSE: WORSE, "covisit": GOOD}, PERSON).released
    verdict = judge(RANKER, {RANKER: GOOD, COARSE: WORSE}, PERSON)
    assert verdict.ratio == pytest.approx(GOOD.mean() / WORSE.mean())
    assert verdict.rival == COARSE
    assert COARSE in verdict.why
    assert verdict.needed is None


@pytest.mark.parametrize("rival", ["covisit", "vector", COARSE, BUILT_IN])
def test_the_gate_refuses_what_is_below_any_of_them_and_names_it(rival: str) -> None:
    verdict = judge(RANKER, {RANKER: WORSE, "popular": WORSE, rival: GOOD}, PERSON)
    assert verdict.outcome == "refused"
    assert rival in verdict.why
    assert verdict.ratio is not None
    assert verdict.ratio < 1


def test_nothing_found_is_no_release_and_a_rival_that_found_nothing_no_obstacle() -> None:
    nothing = np.zeros(200)
    both = judge(RANKER, {RANKER: nothing, COARSE: nothing}, PERSON)
    assert (both.outcome, both.ratio, both.needed) == ("undecided", None, None)
    assert judge(RANKER, {RANKER: GOOD, COARSE: nothing}, PERSON).released
    worst = judge(RANKER, {RANKER: nothing, COARSE: GOOD}, PERSON)
    assert (worst.outcome, worst.ratio, worst.upper) == ("refused", 0.0, 0.0)


def test_few_choices_or_people_decide_nothing() -> None:
    pair = {RANKER: GOOD, COARSE: WORSE}
    few = judge(RANKER, {name: of[:90] for name, of in pair.items()}, PERSON[:90])
    assert (few.outcome, few.needed) == ("undecided", gate.MIN_CHOICES)
    assert str(gate.MIN_CHOICES) in few.why
    one = judge(RANKER, pair, np.zeros(200, np.int64))
    assert (one.outcome, one.lower, one.needed) == ("undecided", None, 200 * gate.MIN_PEOPLE)
    none = judge(RANKER, {RANKER: np.empty(0), COARSE: np.empty(0)}, np.empty(0, np.str_))
    assert (none.outcome, none.n, none.ratio) == ("undecided", 0, None)


def noisy(ratio: float, people: int, seed: int = 0) -> tuple[dict[str, F64], F64]:
    """A candidate and a rival whose gains differ a lot choice by choice, and by `ratio` in the mean."""
    chance = np.random.default_rng(seed)
    rival, own = chance.random((2, people * 5))
    own *= ratio * rival.mean() / own.mean()
    return {RANKER: own, COARSE: rival}, np.repeat(np.arange(people), 5)


@pytest.mark.parametrize("ratio", [1.01, 0.98])
def test_what_it_cannot_decide_it_can_with_as_many_choices_as_it_names(ratio: float) -> None:
    arms, person = noisy(ratio, 40)
    verdict = judge(RANKER, arms, person)
    assert verdict.outcome == "undecided"
    assert verdict.ratio == pytest.approx(ratio)
    assert verdict.needed is not None
    assert f"{verdict.needed:,} needed" in verdict.why
    enough, person = noisy(ratio, verdict.needed * 5 // 4 // 5)
    assert judge(RANKER, enough, person).outcome == ("released" if ratio > 1 else "refused")
    less, person = noisy(ratio, verdict.needed // 3 // 5)
    assert judge(RANKER, less, person).outcome == "undecided"


def test_a_rival_that_is_not_the_best_can_decide() -> None:
    arms, person = noisy(1.02, 40)
    arms["close"] = arms[RANKER] * 0.999
    verdict = judge(RANKER, arms, person)
    assert verdict.outcome == "undecided"
    assert arms["close"].mean() > arms[COARSE].mean()
    assert verdict.rival == COARSE
    assert verdict.rivals["close"].lower == pytest.approx(1 / 0.999)


def test_a_slice_that_lost_refuses_and_a_small_one_says_nothing() -> None:
    own = np.where(FIRST, WORSE, 2 * GOOD)
    arms = {RANKER: own, COARSE: GOOD}
    assert judge(RANKER, arms, PERSON).released
    verdict = judge(RANKER, arms, PERSON, {"new people": FIRST, "others": ~FIRST})
    assert verdict.outcome == "refused"
    assert "worse for new people" in verdict.why
    assert verdict.slices["others"].value == pytest.approx(2)
    small = judge(RANKER, arms, PERSON, {"new people": PERSON < 24})
    assert (small.outcome, small.slices) == ("released", {})


def test_a_condition_that_failed_refuses_with_its_figures() -> None:
    slow = Condition("latency", False, "9.1 ms at the median, 5 ms are allowed")
    fits = Condition("size", True, "12 MB")
    verdict = judge(RANKER, {RANKER: GOOD, COARSE: WORSE}, PERSON, conditions=(slow, fits))
    assert verdict.outcome == "refused"
    assert "latency failed: 9.1 ms" in verdict.why
    assert "size" not in verdict.why
    assert verdict.conditions == (slow, fits)


def test_at_most_so_many_choices_of_a_person_are_judged() -> None:
    person = np.repeat(["bot", "ann", "bob"], [500, 20, 3])
    chosen = at_most(person, seed=3)
    assert np.array_equal(chosen, np.sort(chosen))
    names, counts = np.unique(person[chosen], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "ann": 20,
        "bob": 3,
        "bot": 20,
    }
    assert np.array_equal(chosen, at_most(person, seed=3))
    assert not np.array_equal(chosen, at_most(person, seed=4))
    assert at_most(np.empty(0, np.str_)).tolist() == []
    # each of a person's choices is as likely as any other
    times = np.bincount(np.concatenate([at_most(person, seed) for seed in range(400)]))
    assert times[:500].mean() == 400 * 20 / 500
    assert times[:500].std() < 6


def simulated(people: int, ratio: float, seed: int) -> tuple[dict[str, F64], I64]:
    """Two arms that show a choice at correlated ranks, or not, by chances that differ by `ratio`; five
    choices a person, some people easier than others."""
    chance = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 5)
    easy = np.repeat(chance.beta(1, 6, people), 5)
    common, ranks = chance.random(len(person)), chance.integers(1, 11, len(person))
    arms = {}
    for name, times in ((RANKER, ratio), (COARSE, 1.0)):
        alike = chance.random((2, len(person))) < 0.6
        shown = np.where(alike[0], common, chance.random(len(person))) < easy * times
        rank = np.where(alike[1], ranks, chance.integers(1, 11, len(person)))
        arms[name] = gains(np.where(shown, rank, 0))
    return arms, person


@pytest.mark.check
def test_the_gate_errs_as_rarely_as_its_interval_says() -> None:
    """Of 2,500 choices: what is as good is refused in one trial of forty, what is a tenth worse hardly ever
    is released; of 25,000 choices what is a fifth better is."""
    outcomes = {
        ratio: [judge(RANKER, *simulated(people, ratio, n), rounds=500).outcome for n in range(100)]
        for ratio, people in ((1.0, 500), (0.9, 500), (1.2, 5_000))
    }
    assert outcomes[1.0].count("refused") <= 7
    assert outcomes[1.0].count("undecided") >= 75
    assert outcomes[0.9].count("released") <= 2
    assert outcomes[1.2].count("released") == 100


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_gains_give_a_verdict_of_finite_figures(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 260))
    chance = np.random.default_rng(data.draw(st.integers(0, 9)))
    share, people = data.draw(st.sampled_from([0.0, 0.01, 0.5])), data.draw(st.integers(1, 90))
    arms = {
        name: gains(np.where(chance.random(n) < share * data.draw(st.integers(0, 2)), 1, 0))
        for name in (RANKER, COARSE, "popular")
    }
    slices = {"all": np.ones(n, np.bool_), "none": np.zeros(n, np.bool_)}
    verdict = judge(RANKER, arms, chance.integers(0, people, n), slices, rounds=200)
    figures = (verdict.ratio, verdict.lower, verdict.upper)
    assert all(it is None or np.isfinite(it) for it in figures)
    assert verdict.needed is None or verdict.needed >= gate.MIN_CHOICES
    assert verdict.outcome == "undecided" or verdict.needed is None
    assert verdict.slices.keys() <= {"all"}
    best = max(arms[COARSE].mean(), arms["popular"].mean()) if n else 0.0
    if verdict.released:
        assert arms[RANKER].mean() >= best
        assert verdict.n >= gate.MIN_CHOICES
        assert verdict.people >= gate.MIN_PEOPLE
