"""The roll-up's tables with arms and experiments: laws 4 and 9 for any cut, in any order of partitions."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregates.arms import CLICKED, SERVED, Arm, arm
from models.aggregates.moments import moments
from models.aggregates.tables import Hole, Tables
from schemas.state import facts, tables
from schemas.state.facts import STATES, Delta

PARTITIONS = 3
BAD = (math.nan, math.inf, -math.inf, -0.1, 1.1)


class Slot(NamedTuple):
    """One record of a log: a slot of a person in a variant enters a state."""

    partition: int
    person: int
    placement: int
    item: int
    state: int
    explored: int
    reward: float


slots = st.lists(
    st.builds(
        Slot,
        st.integers(0, PARTITIONS - 1),
        st.integers(0, 3),
        st.integers(1, 2),
        st.sampled_from([1, 2, 2**64 - 1]),
        st.sampled_from([SERVED, SERVED, 1, CLICKED, 3, 4, 5]),
        st.integers(0, 1),
        st.one_of(st.floats(0, 1, width=32), st.sampled_from(BAD)),
    ),
    max_size=60,
)
EXPERIMENT, VERSION = 7, 3


def entry(first: int, made: Sequence[Slot], before: list[list[int]]) -> Delta:
    """The facts of these records; `before`: the earlier counts of each record's person."""
    n = len(made)
    counts = np.array(before, np.uint32).reshape(n, len(STATES))
    after = counts.copy()
    after[np.arange(n), [it.state for it in made]] += 1
    delta = np.arange(n, dtype=np.uint32)
    return Delta(
        first,
        first + n,
        arms=facts.Arms(
            delta,
            np.array([it.placement for it in made], np.uint32),
            np.array([it.item for it in made], np.uint64),
            np.array([it.state for it in made], np.uint8),
            np.array([it.explored for it in made], np.uint8),
            np.ones(n, np.int8),
            np.array([it.reward for it in made], np.float32),
        ),
        moments=facts.Moments(
            delta,
            np.full(n, EXPERIMENT, np.uint32),
            np.full(n, VERSION, np.uint16),
            np.array([1 + it.person % 2 for it in made], np.uint32),
            counts,
            after,
        ),
    )


def entries(log: Sequence[Slot], sizes: Sequence[int]) -> dict[int, list[Delta]]:
    """By partition: its records in order, cut as `sizes` says, as they lie in the delta log."""
    cut: dict[int, list[Delta]] = {}
    counts: dict[tuple[int, int], list[int]] = {}
    for p in range(PARTITIONS):
        mine, at, cut[p] = [it for it in log if it.partition == p], 0, []
        while at < len(mine):
            slots = mine[at : at + sizes[len(cut[p]) % len(sizes)]]
            before = []
            for it in slots:
                held = counts.setdefault((p, it.person), [0] * len(STATES))
                before.append(list(held))
                held[it.state] += 1
            made = facts.decode(facts.encode(entry(at, slots, before)))
            cut[p].append(made)
            at += len(slots)
    return cut


def applied(cut: dict[int, list[Delta]], rng: random.Random, *, restart: bool = False) -> Tables:
    """In order within a partition, in any order over them; `restart`: stored and loaded on the way."""
    made, waiting = Tables(PARTITIONS), {p: list(each) for p, each in cut.items() if each}
    while waiting:
        p = rng.choice(sorted(waiting))
        made.apply(p, waiting[p].pop(0))
        if not waiting[p]:
            del waiting[p]
        if restart and rng.random() < 0.3:
            made = Tables.load(made.dump())
        elif rng.random() < 0.2:
            made.publish(1)  # a timer may look at any time
    return made


def published(made: Tables) -> tables.Published:
    """All tables, as a first publication holds them."""
    return Tables.load(made.dump()).publish(1)


def same(one: tables.Published, other: tables.Published) -> None:
    assert one.meta == other.meta
    assert one.experiments == other.experiments
    assert one.arms.keys() == other.arms.keys()
    for key, value in one.arms.items():
        mine, theirs = arm(value), arm(other.arms[key])
        assert mine[:-1] == theirs[:-1]
        assert math.isclose(mine.mean, theirs.mean, rel_tol=1e-9, abs_tol=1e-15)


@settings(deadline=None)
@given(
    slots, st.lists(st.integers(1, 9), min_size=1, max_size=4), st.randoms(use_true_random=False)
)
def test_law_4_any_cut_and_any_order_of_the_partitions_give_the_same_tables(
    log: list[Slot], sizes: list[int], rng: random.Random
) -> None:
    whole = published(applied(entries(log, [len(log) or 1]), rng))
    same(whole, published(applied(entries(log, [1]), rng)))
    same(whole, published(applied(entries(log, sizes), rng)))
    same(whole, published(applied(entries(log, sizes), rng, restart=True)))


@settings(deadline=None)
@given(
    slots, st.lists(st.integers(1, 9), min_size=1, max_size=4), st.randoms(use_true_random=False)
)
def test_arms_and_moments_are_what_the_plain_definitions_say(
    log: list[Slot], sizes: list[int], rng: random.Random
) -> None:
    log = [*log, *[it._replace(state=SERVED, reward=0.0) for it in log if it.state == CLICKED]]
    made = applied(entries(log, sizes), rng)
    taken = [it for it in log if math.isfinite(it.reward) and 0 <= it.reward <= 1]
    for placement, item in {(it.placement, it.item) for it in taken}:
        mine = [it for it in taken if (it.placement, it.item) == (placement, item)]
        count = Counter(it.state for it in mine)
        found = made.arms.get(np.array([(placement, item)], tables.ARM_KEY).tobytes())
        assert found[: len(STATES)] == tuple(count[state] for state in range(len(STATES)))
        assert found.explored == sum(it.explored for it in mine if it.state == SERVED)
        brought = sum(float(np.float32(it.reward)) for it in mine if it.state == CLICKED)
        assert found.n == count[SERVED]
        assert math.isclose(found.mean * found.n, brought, rel_tol=1e-9, abs_tol=1e-12)
    assert made.arms.ignored.total() == len(log) - len(taken)
    check_moments(log, published(made).experiments)


def check_moments(log: Sequence[Slot], experiments: dict[bytes, bytes]) -> None:
    """Rewards are the arms' affair: every state of every person counts."""
    people: dict[tuple[int, int], np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
    for it in log:
        counts = people.setdefault((it.partition, it.person), np.zeros(len(STATES), np.int64))
        counts[it.state] += 1
    rows = [row for value in experiments.values() for row in moments(value)]
    assert {int(row["variant"]) for row in rows} == {1 + person % 2 for _, person in people}
    for row in rows:
        mine = [c for (_, person), c in people.items() if 1 + person % 2 == row["variant"]]
        assert row["units"] == len(mine)
        counted = np.stack(mine)
        assert row["sums"].tolist() == counted.sum(0).tolist()
        assert row["squares"].tolist() == (counted.T @ counted).tolist()


@settings(deadline=None)
@given(slots.filter(lambda log: len(log) > 1), st.data())
def test_facts_before_the_position_are_not_added_again(
    log: list[Slot], data: st.DataObject
) -> None:
    """After a fault batches may be cut elsewhere, and some facts of one may be added already."""
    log = [it._replace(partition=0) for it in log]
    at = data.draw(st.integers(1, len(log)))
    made = Tables(PARTITIONS)
    made.apply(0, entries(log[:at], [at])[0][0])
    made.apply(0, entries(log, [len(log)])[0][0])
    again = Tables(PARTITIONS)
    again.apply(0, entries(log, [len(log)])[0][0])
    again.apply(0, entries(log, [len(log)])[0][0])
    same(published(made), published(again))


def test_a_missing_entry_of_arms_is_a_hole() -> None:
    log = [Slot(0, 1, 1, n, SERVED, 0, 0.0) for n in range(6)]
    first, _, third = entries(log, [2])[0]
    made = Tables(PARTITIONS)
    made.apply(0, first)
    with pytest.raises(Hole, match="end at 2, the next entry of the delta log starts at 4"):
        made.apply(0, third)
    assert len(made.arms) == 2


def test_a_nan_reward_of_a_click_changes_nothing_but_its_counter() -> None:
    served = [Slot(0, 1, 1, 5, SERVED, 0, 0.0)] * 4
    made = Tables(1)
    made.apply(0, entries(served, [9])[0][0])
    key = np.array([(1, 5)], tables.ARM_KEY).tobytes()
    assert made.arms.get(key) == Arm(served=4, n=4.0)
    made.publish(1)
    clicks = [Slot(0, 1, 1, 5, CLICKED, 0, reward) for reward in BAD]
    made.apply(0, entry(4, clicks, [[4, 0, n, 0, 0, 0] for n in range(len(BAD))]))
    assert made.arms.get(key) == Arm(served=4, n=4.0)
    assert made.arms.ignored == {"reward_not_finite": 3, "reward_out_of_range": 2}
    assert key not in made.publish(2).arms


def test_many_facts_wait_no_longer_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.aggregates.tables.MAX_PENDING_ARM_FACTS", 5)
    log = [Slot(0, 1, 1, n % 3, SERVED, 0, 0.0) for n in range(20)]
    made = Tables(PARTITIONS)
    for each in entries(log, [2])[0]:
        made.apply(0, each)
        assert made._facts < 5
    same(published(made), published(applied(entries(log, [20]), random.Random(0))))
    assert made.changed


def test_a_click_that_waits_for_its_slot_is_stored_with_the_tables() -> None:
    made = Tables(1)
    made.apply(0, entry(0, [Slot(0, 1, 1, 5, CLICKED, 0, 0.5)], [[0] * 6]))
    made = Tables.load(made.dump())
    made.apply(0, entry(1, [Slot(0, 1, 1, 5, SERVED, 0, 0.0)], [[0, 0, 1, 0, 0, 0]]))
    key = np.array([(1, 5)], tables.ARM_KEY).tobytes()
    assert made.arms.get(key) == Arm(served=1, clicked=1, n=1.0, mean=0.5)
