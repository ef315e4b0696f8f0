"""Arms are River's statistics: batches of facts move them as single updates would."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import proba, stats

from models.aggregates.arms import CLICKED, SERVED, Arm, Arms, arm, arm_key, credible
from schemas.identity import category_hash, item_hash
from schemas.state import facts
from schemas.state.facts import STATES
from schemas.state.tables import ARM, ARM_KEY

HOME = category_hash("home")
DISPLAYED, CONVERTED = STATES.index("displayed"), STATES.index("converted")
KEY = arm_key("home", "i1")
one = st.tuples(st.sampled_from([SERVED, SERVED, CLICKED]), st.floats(0, 1, width=32))


def facts_of(*slots: tuple[int, float], item: str = "i1", explored: int = 0) -> facts.Arms:
    """Facts (state, reward) of one arm."""
    n = len(slots)
    return facts.Arms(
        np.zeros(n, np.uint32),
        np.full(n, HOME, np.uint32),
        np.full(n, item_hash(item), np.uint64),
        np.array([state for state, _ in slots], np.uint8),
        np.full(n, explored, np.uint8),
        np.ones(n, np.int8),
        np.array([reward for _, reward in slots], np.float32),
    )


def of(*batches: facts.Arms) -> Arms:
    made = Arms()
    for batch in batches:
        made.add(batch)
    return made


@given(st.lists(one, min_size=1, max_size=60), st.integers(1, 9))
def test_a_batch_is_what_river_makes_of_its_facts_one_by_one(
    slots: list[tuple[int, float]], size: int
) -> None:
    """A served slot updates with 0; a click takes a 0 back and updates with its reward."""
    plain, served, clicked, fits = stats.Mean(), 0, 0, []
    for state, reward in slots:
        if state == CLICKED and clicked == served:
            continue  # an item that was not served gets no click
        fits.append((state, reward))
        if state == SERVED:
            plain.update(0.0)
            served += 1
        else:
            plain.revert(0.0)
            plain.update(reward)
            clicked += 1
    found = of(*(facts_of(*fits[at : at + size]) for at in range(0, len(fits), size))).get(KEY)
    assert (found.served, found.clicked, found.n) == (served, clicked, plain.n)
    assert math.isclose(found.mean, plain.get(), rel_tol=1e-9, abs_tol=1e-15)


def test_a_worked_example_agrees() -> None:
    """Ten slots served, two of them drawn by exploration; two clicks worth 1 and 0.5, one bought."""
    found = of(
        facts_of(*[(SERVED, 0)] * 8),
        facts_of(*[(SERVED, 0)] * 2, explored=1),
        facts_of(*[(DISPLAYED, 0)] * 6, (CLICKED, 1.0), (CLICKED, 0.5), (CONVERTED, 0)),
    ).get(KEY)
    assert found == Arm(10, 6, 2, 1, 0, 0, 2, 10.0, found.mean)
    assert found.mean == pytest.approx(0.15)
    beta = found.beta
    assert isinstance(beta, proba.Beta)
    assert (beta.alpha, beta.beta) == (3, 9)
    lo, hi = credible(beta)
    # Beta(3, 9) by tables: P(X <= 0.0602) = 0.025, P(X <= 0.5178) = 0.975
    assert (round(lo, 3), round(hi, 3)) == (0.06, 0.518)


@given(st.lists(one, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_in_any_order_a_click_waits_for_its_slot_and_nothing_goes_below_zero(
    slots: list[tuple[int, float]], rng: random.Random
) -> None:
    clicks = [it for it in slots if it[0] == CLICKED]
    slots = slots + [(SERVED, 0.0)] * len(clicks)
    rng.shuffle(slots)
    arms = Arms()
    for slot in slots:
        arms.add(facts_of(slot))
        found = arms.get(KEY)
        assert found.n == found.served
        assert 0 <= found.mean <= 1 + 1e-12
        assert found.beta.beta >= 1
    brought = sum(float(np.float32(reward)) for _, reward in clicks)
    assert math.isclose(found.mean * found.served, brought, rel_tol=1e-9, abs_tol=1e-12)
    assert found.clicked == len(clicks)


@pytest.mark.parametrize("rewards", [(1.0, 0.5, 0.0), (0.0, 0.5, 1.0), (0.5, 1.0, 0.0)])
def test_of_more_clicks_than_slots_each_counts_alike(rewards: tuple[float, ...]) -> None:
    """One slot, three clicks: it is worth what they are on average, whichever came first."""
    slots = [(SERVED, 0.0), *((CLICKED, reward) for reward in rewards)]
    for batches in ([slots], [[it] for it in slots], [[it] for it in reversed(slots)]):
        found = of(*(facts_of(*batch) for batch in batches)).get(KEY)
        assert (found.n, found.beta.beta) == (1, 1)
        assert found.mean == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        (math.nan, "reward_not_finite"),
        (math.inf, "reward_not_finite"),
        (-math.inf, "reward_not_finite"),
        (-0.1, "reward_out_of_range"),
        (1.1, "reward_out_of_range"),
    ],
)
def test_an_invalid_reward_is_ignored_and_counted(reward: float, why: str) -> None:
    arms = of(facts_of((SERVED, 0), (SERVED, 0), (CLICKED, 0.5)))
    before = arms.get(KEY)
    arms.publish(whole=True)
    arms.add(facts_of((CLICKED, reward)))
    assert arms.get(KEY) == before
    assert arms.ignored == {why: 1}
    assert not arms.changed
    arms.add(facts_of((SERVED, 0), (CLICKED, reward), (CLICKED, 1.0)))  # its neighbours count
    after = arms.get(KEY)
    assert after == Arm(3, 0, 2, 0, 0, 0, 0, 3.0, after.mean)
    assert after.mean == pytest.approx(0.5)


def test_an_unknown_state_is_ignored_and_counted() -> None:
    arms = of(facts_of((len(STATES), 0.0), (255, math.nan)))
    assert arms.ignored == {"unknown_state": 2}
    assert len(arms) == 0


def test_an_arm_is_a_placement_and_an_item() -> None:
    elsewhere = facts_of((SERVED, 0))._replace(
        placement=np.array([category_hash("popular")], np.uint32)
    )
    arms = of(
        facts_of((SERVED, 0)), facts_of((SERVED, 0), item="i2"), elsewhere, facts_of((SERVED, 0))
    )
    assert len(arms) == 3
    assert arms.get(KEY).served == 2
    assert arms.get(arm_key("popular", "i1")).served == 1
    assert arms.get(arm_key("popular", "i2")) == Arm()


def test_a_changed_arm_is_published_once() -> None:
    arms = of(facts_of((SERVED, 0)), facts_of((SERVED, 0), item="i2"))
    first = arms.publish(whole=False)
    assert set(first) == {KEY, arm_key("home", "i2")}
    assert arm(first[KEY]) == arms.get(KEY) == Arm(served=1, n=1.0)
    assert len(KEY) == ARM_KEY.itemsize
    assert len(first[KEY]) == ARM.itemsize
    assert arms.publish(whole=False) == {}
    arms.add(facts_of((CLICKED, 1.0)))
    assert set(arms.publish(whole=False)) == {KEY}
    assert set(arms.publish(whole=True)) == set(first)


def test_only_a_process_that_adds_to_arms_pays_for_river() -> None:
    """A third of a second, and more for scipy, which only who reads an interval needs."""
    code = "import sys, models.aggregates.tables; sys.exit('river' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
