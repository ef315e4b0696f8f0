"""Arranging: the head breaks no cap and holds a fresh item, or the answer reports it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models import exploration
from serving.decide.arrange import (
    CATEGORY_CAP,
    FRESH,
    HEAD_SLOTS,
    OWNER_CAP,
    Arranged,
    Candidates,
    Limits,
    arrange,
    cap,
)

kinds = st.lists(st.integers(0, 4), max_size=60)
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=60)
counts = st.integers(1, 30)
shares = st.floats(0, 1)


def line(categories: list[int], owners: list[int] | None = None) -> Candidates:
    """Candidates in the order of their places."""
    own = np.array(owners or [0] * len(categories), np.int32)
    return Candidates(np.arange(len(categories)), np.array(categories, np.int32), own)


def arranged(categories: list[int], count: int, share: float) -> Arranged:
    return arrange(line(categories), count, Limits(cap(share, count)))


def broken(of: Candidates, places: list[int], count: int, limits: Limits) -> set[str]:
    """The caps that the first places break."""
    head = places[: min(HEAD_SLOTS, count)]
    return {
        rule
        for rule, numbers, most in (
            (CATEGORY_CAP, of.category, limits.category),
            (OWNER_CAP, of.owner, limits.owner),
        )
        if any(n > most for kind, n in Counter(numbers[head].tolist()).items() if kind)
    }


@given(pairs, counts, shares, shares)
@example([(1, 1)] * 20, 10, 0.3, 0.3)
def test_the_caps_hold_in_the_head_or_are_reported(
    given: list[tuple[int, int]], count: int, share: float, own: float
) -> None:
    of = line([c for c, _ in given], [o for _, o in given])
    limits = Limits(cap(share, count), cap(own, count))
    found = arrange(of, count, limits)
    assert set(found.relaxed) == broken(of, found.places, count, limits)


@given(kinds, counts, shares)
def test_a_slate_has_the_asked_number_and_each_candidate_once(
    given: list[int], count: int, share: float
) -> None:
    places = arranged(given, count, share).places
    assert len(places) == min(count, len(given)) == len(set(places))


@given(kinds, counts, shares)
def test_arrangement_is_greedy_within_a_category(
    given: list[int], count: int, share: float
) -> None:
    """The items of a category keep their order."""
    places = arranged(given, count, share).places
    for category in set(given):
        own = [place for place in places if given[place] == category]
        first = [place for place, kind in enumerate(given) if kind == category]
        assert own == first[: len(own)]


@given(kinds, counts, shares)
def test_a_cap_is_relaxed_only_where_candidates_ran_out(
    given: list[int], count: int, share: float
) -> None:
    most = cap(share, count)
    possible = sum(min(n, most) if kind else n for kind, n in Counter(given).items())
    short = possible < min(HEAD_SLOTS, count) and possible < len(given)
    assert bool(arranged(given, count, share).relaxed) == short


def test_a_slate_by_hand_agrees() -> None:
    # c1 c1 c1 c1 c2 c3 ...: the fourth of c1 waits until the head is full
    given = [1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2]
    found = arranged(given, 12, 0.3)
    assert found.places == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 3, 11]
    assert found.relaxed == ()
    assert found.held == {CATEGORY_CAP: 1, OWNER_CAP: 0}


def test_each_cap_counts_what_it_held_back() -> None:
    of = line([1, 1, 2, 3, 4], [7, 7, 7, 8, 9])
    found = arrange(of, 3, Limits(category=2, owner=1))
    assert found.places == [0, 3, 4]
    assert found.held == {CATEGORY_CAP: 0, OWNER_CAP: 2}
    found = arrange(of, 5, Limits(category=1, owner=1))
    assert found.places == [0, 3, 4, 1, 2]
    assert found.relaxed == (CATEGORY_CAP, OWNER_CAP)


def test_the_category_cap_is_lifted_where_the_request_filters_on_category() -> None:
    found = arrange(line([1] * 5), 4, Limits(1, lifted=True))
    assert found.places == [0, 1, 2, 3]
    assert found.relaxed == (CATEGORY_CAP,)


# --- fresh ---


@given(kinds, st.lists(st.booleans(), min_size=60, max_size=60), counts, shares, st.booleans())
def test_a_fresh_item_is_in_the_slate_or_it_is_reported(
    given: list[int], young: list[bool], count: int, share: float, drawn: bool
) -> None:
    fresh = np.array(young[: len(given)], np.bool_)
    of = replace(line(given), fresh=fresh, served=np.zeros(len(given)) if drawn else None)
    limits = Limits(cap(share, count), epsilon=0.5, seed=count)
    found = arrange(of, count, limits)
    # a drawn item is chance: the promise is kept without it
    fixed = found.places if found.drawn is None else found.places[:-1]
    there = bool(fresh[fixed].any())
    assert there or not fresh.any() or FRESH in found.relaxed
    plain = arrange(replace(of, served=None), count, limits)
    assert len(found.places) == len(set(found.places)) == len(plain.places)
    if not drawn:
        old = arrange(replace(of, fresh=None), count, limits)
        assert found.places[:-1] == old.places[:-1]
        assert broken(of, found.places, count, limits) <= broken(of, old.places, count, limits)
        assert (found.places == old.places) or not fresh[old.places].any()


def test_the_best_fresh_item_takes_the_last_slot_if_it_fits() -> None:
    of = line([1, 2, 3, 1, 4])
    young = np.array([False, False, False, True, True])
    found = arrange(replace(of, fresh=young), 2, Limits(category=1))
    assert found.places == [0, 4]  # 3 is fresh and better, but there is one of category 1
    both = replace(of, fresh=np.array([False, False, True, True, True]))
    assert arrange(both, 2, Limits(category=1)).places == [0, 2]
    only = replace(of, fresh=np.array([False, False, False, True, False]))
    found = arrange(only, 2, Limits(category=1))
    assert (found.places, found.relaxed) == ([0, 1], (FRESH,))


# --- the drawn slot ---


def drawn(of: Candidates, count: int, limits: Limits, seed: int) -> Arranged:
    return arrange(of, count, replace(limits, seed=seed))


@given(
    pairs, st.lists(st.integers(0, 2), min_size=60, max_size=60), counts, st.integers(0, 2**64 - 1)
)
def test_the_drawn_item_fits_and_none_that_fits_was_served_less(
    given: list[tuple[int, int]], served: list[int], count: int, seed: int
) -> None:
    of = line([c for c, _ in given], [o for _, o in given])
    times_served = np.array(served[: len(given)], np.float64)
    limits = Limits(cap(0.3, count), cap(0.3, count), epsilon=1.0, seed=seed)
    found = arrange(replace(of, served=times_served), count, limits)
    plain = arrange(of, count, limits)
    assert found.places[:-1] == plain.places[:-1]
    assert broken(of, found.places, count, limits) <= broken(of, plain.places, count, limits)
    if found.drawn is None:
        assert found.places == plain.places
        return
    assert found.drawn.explored
    assert found.drawn.choice == found.places[-1]
    before = found.places[:-1]
    others = [
        place
        for place in range(len(given))
        if place not in before
        and broken(of, [*before, place], count, limits) <= broken(of, before, count, limits)
    ]
    assert times_served[found.places[-1]] == min(times_served[others])


@given(pairs, counts, st.integers(0, 2**64 - 1))
def test_without_a_draw_the_slate_is_the_greedy_one(
    given: list[tuple[int, int]], count: int, seed: int
) -> None:
    of = line([c for c, _ in given], [o for _, o in given])
    limits = Limits(cap(0.3, count), cap(0.3, count), epsilon=0.0, seed=seed)
    found = arrange(replace(of, served=np.zeros(len(given))), count, limits)
    plain = arrange(of, count, limits)
    assert found.places == plain.places
    assert set(found.relaxed) == set(plain.relaxed)
    assert found.drawn is None or not found.drawn.explored


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("greedy_uncovered", [True, False])
def test_frequencies_are_the_logged_probabilities(epsilon: float, greedy_uncovered: bool) -> None:
    """Chi-square over fixed seeds; the probabilities of all items that may be drawn sum to 1."""
    # slots 0 to 3 are greedy; of the rest 4 is the greedy choice, 5 does not fit
    of = line([1, 2, 3, 4, 5, 1, 6, 7, 0, 0])
    served = np.array([0, 0, 0, 0, 0 if greedy_uncovered else 3, 0, 0, 2, 0, 0], np.float64)
    of, limits, n = replace(of, served=served), Limits(category=1, epsilon=epsilon), 4_000
    found = [drawn(of, 5, limits, seed * 977) for seed in range(n)]
    assert all(one.drawn is not None and one.places[:4] == [0, 1, 2, 3] for one in found)
    logged = {one.places[-1]: one.drawn.probability for one in found if one.drawn}
    possible = {4, 6, 8, 9} if greedy_uncovered or epsilon < 1 else {6, 8, 9}
    assert set(logged) == possible
    assert sum(logged.values()) == pytest.approx(1.0, abs=1e-12)
    times = Counter(one.places[-1] for one in found)
    chi = sum((times[place] - n * p) ** 2 / (n * p) for place, p in logged.items())
    assert chi < 16.27  # 3 degrees of freedom, p = .001
    coins = sum(one.drawn.explored for one in found if one.drawn)
    assert abs(coins - n * epsilon) <= 4 * (n * epsilon * (1 - epsilon)) ** 0.5


def test_a_slate_of_one_is_never_drawn() -> None:
    of = replace(line([1, 2, 3]), served=np.zeros(3))
    found = arrange(of, 1, Limits(category=1, epsilon=1.0))
    assert (found.places, found.drawn) == ([0], None)


def test_an_item_that_cannot_be_drawn_has_propensity_zero() -> None:
    uncovered = np.array([3, 5])
    assert exploration.propensity(0.1, 9, uncovered, 4) == 0.0
    assert exploration.propensity(0.1, 9, uncovered, 3) == 0.05
    assert exploration.propensity(0.1, 3, uncovered, 3) == pytest.approx(0.95)
