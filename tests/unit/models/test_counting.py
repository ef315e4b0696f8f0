"""The choice of a counting: against a plain definition, and on people whose habits are known."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.training import counting as chosen_counting
from models.training.counting import (
    MIXES,
    VALUES,
    ListSums,
    Stretch,
    choose_counting,
    choose_mix,
    paired_difference,
    scored,
)
from schemas.state.counting import BUILT_IN, LAG_POWERS, Counting, only
from schemas.state.tables import WINDOWS

NONE = np.empty(0, np.int64)
SUMS = tuple(product(LAG_POWERS, VALUES["gap"]))


def stretch(seed: int, choices: int = 30, lists: int = 8, items: int = 12) -> Stretch:
    """Random sums, interests and hidden items."""
    chance = np.random.default_rng(seed)
    there = np.argwhere(chance.random((lists, items)) < 0.7)
    there = there[there[:, 0] % 4 != 3]  # some lists are empty
    keys = (there[:, 0] << 32 | there[:, 1]).astype(np.uint64)
    sums = {
        of: ListSums(keys, *chance.integers(0, 4, (2, len(keys))).astype(np.float64)) for of in SUMS
    }
    sizes = chance.integers(0, 4, choices)
    hidden = np.argwhere(chance.random((choices, items)) < 0.1)
    return Stretch(
        sums,
        chance.integers(0, items, choices),
        np.arange(choices) // 3,
        np.repeat(np.arange(choices), sizes),
        chance.integers(0, lists, int(sizes.sum())),
        np.concatenate([NONE, *(np.arange(size) for size in sizes)]),
        hidden[:, 0],
        hidden[:, 1],
    )


def plain_ranks(of: Stretch, counting: Counting, length: int) -> list[int]:
    """The slow definition: list by list, choice by choice."""
    sums = of.sums[counting.lag_power, counting.gap]
    lists = defaultdict(list)
    for key, forward, backward in zip(*sums, strict=True):
        if total := forward + counting.backward * backward:
            lists[int(key) >> 32].append((-total, int(key) & 0xFFFF_FFFF))
    for owner, rows in lists.items():
        best = sorted(rows)[:length]
        whole = sum(total for total, _ in best)
        lists[owner] = [(total / whole, partner) for total, partner in best]
    found = []
    for n, target in enumerate(of.target):
        mine = np.flatnonzero(of.entry_choice == n)
        weights = counting.fade ** of.entry_age[mine].astype(float)
        scores: dict[int, float] = defaultdict(float)
        for weight, owner in zip(weights / weights.sum(), of.entry_list[mine], strict=True):
            for share, partner in lists.get(int(owner), ()):
                scores[partner] += weight * share
        for item in of.hidden_item[of.hidden_choice == n]:
            scores.pop(int(item), None)
        own = scores.get(int(target))
        above = 0 if own is None else sum(score > own + 1e-12 for score in scores.values())
        found.append(0 if own is None else above + 1)
    return found


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(LAG_POWERS),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(["session", "any"]),
)
def test_ranks_are_those_of_the_plain_definition(
    seed: int, power: float, backward: float, gap: str
) -> None:
    some = stretch(seed)
    counting = msgspec.structs.replace(BUILT_IN, lag_power=power, backward=backward, gap=gap)
    found = scored(some, counting).optimistic
    expected = plain_ranks(some, counting, chosen_counting.LIST_LENGTH)
    # equal sums may differ in their last bit, and then by a rank
    assert np.array_equal(found > 0, np.array(expected) > 0)
    assert (found == expected).mean() > 0.9


def test_lists_are_as_long_as_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_counting, "LIST_LENGTH", 3)
    some = stretch(1)
    one_power = Counting(fade=0.75)
    assert (scored(some, one_power).optimistic > 0).tolist() == [
        rank > 0 for rank in plain_ranks(some, one_power, 3)
    ]


def habits(forward: tuple[float, float], backward: tuple[float, float], people: int) -> Stretch:
    """Everybody chooses item 1 after item 0, of which item 2 has sums of 1. Sums: (within, beyond)."""
    many = np.arange(people)
    keys = np.array([1, 2], np.uint64)
    session = ListSums(keys, np.array([forward[0], 1]), np.array([backward[0], 1]))
    every = ListSums(keys, np.array([sum(forward), 2]), np.array([sum(backward), 2]))
    return Stretch(
        {(power, gap): session if gap == "session" else every for power, gap in SUMS},
        np.ones(people, np.int64),
        many,
        many,
        np.zeros(people, np.int64),
        np.zeros(people, np.int64),
        NONE,
        NONE,
    )


def test_direction_and_gap_follow_peoples_habits() -> None:
    ordered, figures = choose_counting([habits((0.8, 0.9), (0.0, 0.0), 50)])
    assert ordered == BUILT_IN  # item 2 wins under every counting
    assert figures["start"] == figures["chosen"] > 0
    # item 2 has (1, 1) both ways: only its backward half is too little
    assert choose_counting([habits((0.8, 0.8), (1.3, 1.3), 50)])[0].backward == 1.0
    assert choose_counting([habits((1.2, 1.2), (0.0, 0.0), 50)])[0].backward == 0.0


def test_within_sessions_is_chosen_where_what_lies_beyond_misleads() -> None:
    misled = habits((2.0, -1.0), (0.0, 0.0), 50)
    assert scored(misled, BUILT_IN).optimistic.tolist() == [2] * 50
    found, figures = choose_counting([misled])
    assert found.gap == "session"
    assert figures == {"start": pytest.approx(0.63093), "chosen": 1.0}


def test_the_built_in_stays_where_chance_or_one_person_decides() -> None:
    assert choose_counting([]) == (BUILT_IN, {"start": 0.0, "chosen": 0.0})
    nothing = stretch(0, choices=0)
    assert choose_counting([nothing])[0] == BUILT_IN
    misled = habits((2.0, -1.0), (0.0, 0.0), 50)
    alone = misled._replace(person=np.zeros(50, np.int64))
    assert choose_counting([alone])[0] == BUILT_IN


def test_a_mix_needs_to_win() -> None:
    people = np.arange(40)
    even = (people % 2).astype(float)
    default, other = only("24h"), only("1h")
    assert choose_mix({default: even, other: 1.0 - even}, people, default) == default
    assert choose_mix({default: even, other: np.ones(40)}, people, default) == other
    assert len(set(MIXES)) == 2 ** len(WINDOWS) - 1
    assert all(sum(mix) > 0 for mix in MIXES)


@given(st.integers(0, 2**32 - 1))
def test_the_standard_error_of_equally_many_choices_a_person_is_that_of_their_means(
    seed: int,
) -> None:
    difference = np.random.default_rng(seed).normal(size=(7, 5))
    mean, error = paired_difference(difference.ravel(), np.zeros(35), np.repeat(np.arange(7), 5))
    own = difference.mean(1)
    assert mean == pytest.approx(own.mean())
    assert error == pytest.approx(own.std(ddof=1) / 7**0.5)
