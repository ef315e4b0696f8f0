"""The metrics of evaluation against brute force: every order of equal scores, every draw of negatives."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from models.evaluation import choices, debiased, judged, ranking, slates
from models.evaluation.choices import METRICS, Scored, among_negatives, expected, gained
from models.evaluation.judged import GAINS, JudgedLists

CUTS = st.integers(1, 4)


def scored(above: int, equal: int) -> Scored:
    return Scored(np.array([above]), np.array([equal]))


def test_gains_at_ranks_by_hand() -> None:
    ranks = np.array([1, 2, 10, 11, 0])
    by_hand = {
        "hr": [1, 1, 1, 0, 0],
        "ndcg": [1, 1 / math.log2(3), 1 / math.log2(11), 0, 0],
        "recall": [1, 1, 1, 0, 0],
        "precision": [0.1, 0.1, 0.1, 0, 0],
        "mrr": [1, 0.5, 0.1, 0, 0],
    }
    assert by_hand.keys() == METRICS.keys()
    for name, values in by_hand.items():
        assert gained(name, ranks) == pytest.approx(values)
    assert np.array_equal(gained("ndcg", ranks), ranking.gains(ranks))


@given(st.sampled_from([*METRICS]), st.integers(0, 4), st.integers(0, 4), CUTS)
@settings(deadline=None)
def test_a_choice_among_equals_gains_the_mean_over_their_orders(
    name: str, above: int, equal: int, cut: int
) -> None:
    ranks = [above + 1 + order.index(0) for order in itertools.permutations(range(equal + 1))]
    wanted = float(gained(name, np.array(ranks), cut).mean())
    one = scored(above, equal)
    assert expected(name, one, cut)[0] == pytest.approx(wanted, abs=1e-12)
    best, worst = gained(name, one.optimistic, cut), gained(name, one.pessimistic, cut)
    assert worst[0] <= expected(name, one, cut)[0] + 1e-12
    assert best[0] >= expected(name, one, cut)[0] - 1e-12


def test_a_choice_that_was_not_eligible_gains_nothing() -> None:
    one = scored(-1, 0)
    for name in METRICS:
        assert expected(name, one).tolist() == [0.0]
        assert among_negatives(name, one, np.array([500])).tolist() == [0.0]
    assert (one.optimistic.tolist(), one.pessimistic.tolist()) == ([0], [0])


@given(st.sampled_from([*METRICS]), st.data(), CUTS)
@settings(deadline=None)
def test_among_negatives_a_choice_gains_the_mean_over_every_draw(
    name: str, data: st.DataObject, cut: int
) -> None:
    above, equal, rest = (data.draw(st.integers(0, 3)) for _ in range(3))
    n = data.draw(st.integers(1, 6))
    # others: 1 above the choice, 0 equal, -1 below
    others = [1] * above + [0] * equal + [-1] * rest
    draws = [*itertools.combinations(others, min(n, len(others)))]
    wanted = np.mean([
        expected(name, scored(draw.count(1), draw.count(0)), cut)[0] for draw in draws
    ])  # fmt: skip
    found = among_negatives(name, scored(above, equal), np.array([len(others)]), n, cut)
    assert found[0] == pytest.approx(wanted, abs=1e-12)


def test_among_a_hundred_negatives_the_mean_of_simulated_draws() -> None:
    chance = np.random.default_rng(0)
    above, equal, others = np.array([0, 40, 300, 900, 5]), np.array([0, 0, 20, 99, 990]), 1_000
    found = among_negatives("ndcg", Scored(above, equal), np.full(5, others))
    for at in range(5):
        higher, same, rest = above[at], equal[at], others - above[at] - equal[at]
        drawn = chance.multivariate_hypergeometric([higher, same, rest], 100, 20_000)
        gains = expected("ndcg", Scored(drawn[:, 0], drawn[:, 1]))
        assert found[at] == pytest.approx(gains.mean(), abs=5 * gains.std() / 141 + 1e-6)


def test_a_random_scorer_gains_what_a_uniform_rank_does() -> None:
    """All items equal: HR@10 among 100 negatives is 10 / 101, of QUALITY's random row."""
    one = Scored(np.array([0]), np.array([9_723]))
    assert among_negatives("hr", one, np.array([9_723]))[0] == pytest.approx(10 / 101)
    assert among_negatives("ndcg", one, np.array([9_723]))[0] == pytest.approx(0.045, abs=5e-4)
    with pytest.raises(ValueError, match="negatives"):
        among_negatives("hr", one, np.array([9_723]), 501)


def test_among_negatives_order_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(1)
    above, equal = chance.integers(-1, 400, 300), chance.integers(0, 50, 300)
    eligible = above + equal + chance.integers(1, 500, 300)
    whole = among_negatives("mrr", Scored(above, equal), eligible)
    monkeypatch.setattr(choices, "MAX_CELLS", 700)
    assert np.allclose(among_negatives("mrr", Scored(above, equal), eligible), whole, atol=1e-15)


LISTS = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=5), min_size=1, max_size=3
)
"""Of (score, grade)."""


def laid_out(lists: list[list[tuple[int, int]]]) -> JudgedLists:
    flat = np.array([it for one in lists for it in one], np.float64).reshape(-1, 2)
    return JudgedLists(flat[:, 0], flat[:, 1], np.array([len(one) for one in lists]))


def orders(one: list[tuple[int, int]]) -> list[list[int]]:
    """The grades in each order that the scores allow."""
    return [
        [grade for _, grade in order]
        for order in itertools.permutations(one)
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
    ]


def dcg(grades: list[int], gain: str, cut: int) -> float:
    gains = GAINS[gain](np.array(grades, np.float64))
    return sum(float(it) / math.log2(at + 2) for at, it in enumerate(gains[:cut]))


@given(LISTS, CUTS)
@settings(deadline=None)
def test_a_judged_list_counts_the_mean_over_the_orders_of_its_equals(
    made: list[list[tuple[int, int]]], cut: int
) -> None:
    lists = laid_out(made)
    found = {gain: judged.ndcg(lists, cut, gain) for gain in GAINS}
    rest = [it(lists, cut) for it in (judged.recall, judged.precision, judged.mrr, judged.hits)]
    for at, one in enumerate(made):
        relevant = sum(grade > 0 for _, grade in one)
        assert lists.has_relevant[at] == (relevant > 0)
        if not relevant:
            assert [it[at] for it in (*found.values(), *rest)] == [0.0] * 7
            continue
        every = orders(one)
        for gain in GAINS:
            best = dcg(sorted((grade for _, grade in one), reverse=True), gain, cut)
            wanted = np.mean([dcg(order, gain, cut) / best for order in every])
            assert found[gain][at] == pytest.approx(wanted, abs=1e-12)
        hits = np.mean([sum(it > 0 for it in order[:cut]) for order in every])
        first = [next(n for n, it in enumerate(order, 1) if it > 0) for order in every]
        mrr = np.mean([1 / n if n <= cut else 0.0 for n in first])
        any_hit = np.mean([n <= cut for n in first])
        wanted_rest = [hits / relevant, hits / cut, mrr, any_hit]
        assert [it[at] for it in rest] == pytest.approx(wanted_rest, abs=1e-12)


def test_judged_lists_with_equal_scores_agree_with_scikit_learn() -> None:
    chance = np.random.default_rng(2)
    score, grade = chance.integers(0, 6, (2, 50, 24)).astype(np.float64)
    lists = JudgedLists(score.ravel(), grade.ravel(), np.full(50, 24))
    for cut in (1, 10, 24):
        theirs = ndcg_score(np.exp2(grade) - 1, score, k=cut)
        assert judged.ndcg(lists, cut).mean() == pytest.approx(theirs, abs=1e-12)


def test_a_score_that_is_no_number_is_the_lowest() -> None:
    some = JudgedLists(np.array([np.nan, -np.inf, 0.0]), np.array([1.0, 0, 0]), np.array([3]))
    assert judged.mrr(some).tolist() == [pytest.approx((1 / 2 + 1 / 3) / 2)]
    nothing = JudgedLists(np.empty(0), np.empty(0), np.array([0, 0]))
    for metric in (judged.ndcg, judged.recall, judged.precision, judged.mrr, judged.hits):
        assert metric(nothing).tolist() == [0.0, 0.0]


SLATES = np.array([[0, 1, 2, 3], [4, 5, -1, -1], [0, -1, -1, -1], [-1, -1, -1, -1]])
CATEGORY = np.array([0, 0, 1, -1, -1, -1, 2, 2])
COUNT = np.array([8, 4, 2, 1, 0, 1, 8, 0])


def test_slates_by_hand() -> None:
    assert slates.coverage(SLATES, 8) == 6 / 8
    assert slates.distinct(SLATES, CATEGORY).values.tolist() == [0.75, 1, 1, 0]
    pairs = slates.diversity(SLATES, CATEGORY)
    assert pairs.values == pytest.approx([5 / 6, 1, 0, 0])
    assert pairs.defined.tolist() == [True, True, False, False]
    assert slates.novelty(SLATES, COUNT, 8).values == pytest.approx([6 / 4, 3, 0, 0])
    assert slates.popularity(SLATES, COUNT).values.tolist() == [15 / 4, 0.5, 8, 0]
    assert slates.percentiles(np.full(5, 3)).tolist() == [0.5] * 5
    assert slates.popularity_bias(SLATES, np.array([0, 6]), COUNT) == pytest.approx(
        slates.percentiles(COUNT)[[0, 1, 2, 3, 4, 5, 0]].mean() / 0.875
    )


def test_calibration_is_zero_for_the_same_shares_and_grows_to_its_bound() -> None:
    of = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    acts = np.array([0, 2, 6, 0, 2, 0, 1, 2, 6])
    shown = np.array([[1, 2, 6], [6, 7, -1], [1, 0, 2], [0, 1, 2]])
    found = slates.calibration(shown, CATEGORY, of, acts)
    assert found.defined.tolist() == [True, True, True, False]  # the last has no history
    assert found.values[0] == pytest.approx(0, abs=1e-15)
    assert found.values[1] == pytest.approx(-math.log(slates.SMOOTHING))
    by_hand = 0.5 * math.log(0.5 / (0.99 * 2 / 3 + 0.005))
    by_hand += 0.25 * math.log(0.25 / (0.99 / 3 + 0.0025)) + 0.25 * math.log(100)
    assert found.values[2] == pytest.approx(by_hand)


def test_of_nothing_slates_say_nothing() -> None:
    none = np.empty((0, 10), np.int64)
    acts = np.empty(0, np.int64)
    for empty in (none, np.full((2, 10), -1)):
        assert slates.coverage(empty, 8) == 0
        assert slates.distinct(empty, CATEGORY).mean is None
        assert slates.diversity(empty, CATEGORY).mean is None
        assert slates.novelty(empty, COUNT, 8).mean is None
        assert slates.popularity_bias(empty, np.array([0]), COUNT) is None
        assert slates.calibration(empty, CATEGORY, acts, acts).mean is None
    without = np.full(8, -1)
    assert slates.calibration(SLATES, without, np.array([0]), np.array([0])).mean is None
    assert slates.distinct(SLATES, without).values.tolist() == [1, 1, 1, 0]
    assert slates.coverage(none, 0) == 0


def test_rare_choices_weigh_more_up_to_a_bound() -> None:
    count = np.array([10_000, 2_500, 1, 0])
    chosen = np.arange(4)
    assert debiased.weights(chosen, count).tolist() == [1, 2, 50, 50]
    assert debiased.weights(chosen, count, gamma=0).tolist() == [1, 1, 1, 1]
    assert debiased.weights(chosen, count, gamma=1, least=0.25).tolist() == [1, 4, 4, 4]
    assert debiased.weights(chosen, np.zeros(4, np.int64)).tolist() == [1, 1, 1, 1]
