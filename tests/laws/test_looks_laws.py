"""Tables do not depend on how looks cut the delta log: the same bytes, one by one or at once."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregates.tables import Hole, Tables
from schemas.state import facts, tables
from schemas.state.facts import Delta
from tests.laws.test_waiting_laws import LIMITS, PARTITIONS, START, Step, by_partition, entry, steps

HOUR, MONTH = 3600, 30 * 86_400
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=4)
few = st.sampled_from((11, 12, 13, 14))
logs = st.one_of(
    steps,
    # most wait for a few items, of which one is listed now and then
    st.lists(
        st.builds(
            Step,
            st.integers(0, PARTITIONS - 1),
            few,
            st.sampled_from([False, False, False, True]),
            imported=st.booleans(),
            back=st.just(False),
            partners=st.lists(few, min_size=2, max_size=3, unique=True).map(tuple),
            mark=st.just(()),
            days=st.just(0),
        ),
        min_size=20,
        max_size=40,
    ),
)


def stretched(made: Delta, gap: int) -> Delta:
    """A fact a minute becomes one a `gap` (s)."""
    time = START + (made.actions.time.astype(np.int64) - START) // 60 * gap
    return made._replace(actions=made.actions._replace(time=time.astype(np.uint32)))


def log_of(
    drawn: Sequence[Step], sizes: Sequence[int], gap: int, rng: random.Random
) -> list[tuple[int, list[bytes]]]:
    """Entries as stored, in one order of the partitions: of one after the other, some that follow."""
    rest, at = by_partition(drawn), [0] * PARTITIONS
    runs: list[tuple[int, list[bytes]]] = []
    while any(rest):
        p = rng.choice([p for p in range(PARTITIONS) if rest[p]])
        runs.append((p, []))
        for _ in range(rng.randint(1, 6)):
            size = rng.choice(sizes)
            made, rest[p] = rest[p][:size], rest[p][size:]
            runs[-1][1].append(facts.encode(stretched(entry(at[p], made), gap)))
            at[p] += len(made)
    return runs


def content(made: Tables) -> list[bytes]:
    """All that is published, and the sums of all pairs."""
    order = made.items.hashes
    pairs = [
        sorted(
            zip(
                order[keys >> np.uint64(32)].tolist(),
                order[keys & np.uint64(2**32 - 1)].tolist(),
                sums.T.tolist(),
                strict=True,
            )
        )
        for keys, sums in (made.pairs.session.settle(), made.pairs.beyond.settle())
    ]
    published = Tables.load(made.dump()).publish(1)
    by_hash = [sorted(published.popularity.items()), sorted(published.neighbours.items())]
    return [tables.ENCODER.encode(it) for it in (published.meta, by_hash, pairs)]


@settings(deadline=None, max_examples=20)
@given(logs, cuts, st.sampled_from([60, HOUR, MONTH]), st.randoms(use_true_random=False))
def test_a_look_adds_its_entries_at_once_to_the_same_bytes(
    drawn: list[Step], sizes: list[int], gap: int, rng: random.Random
) -> None:
    runs = log_of(drawn, sizes, gap, rng)
    one_by_one, by_look = Tables(PARTITIONS, LIMITS), Tables(PARTITIONS, LIMITS)
    for p, values in runs:
        for value in values:
            one_by_one.apply(p, facts.decode(value))
        if rng.random() < 0.2:
            one_by_one.publish(1)
        while values:
            look = rng.randint(1, len(values))
            by_look.apply_stored(p, values[:look])
            del values[:look]
    assert content(by_look) == content(one_by_one)


@settings(deadline=None, max_examples=15)
@given(logs, cuts, st.randoms(use_true_random=False))
def test_a_log_of_one_partition_gives_the_same_bytes_however_people_cut_it(
    drawn: list[Step], sizes: list[int], rng: random.Random
) -> None:
    # an entry of its own moves the landmarks to the newest time
    newest = Step(0, 11, listed=True)
    log = [it._replace(partition=0) for it in drawn]
    numbered = by_partition([*log, newest])[0]
    last = numbered[-1]

    def folded(sizes: Sequence[int]) -> Tables:
        made = Tables(PARTITIONS, LIMITS)
        made.apply(0, entry(0, [last]))
        rest = numbered[:-1]
        while rest:
            size = rng.choice(sizes)
            made.apply(0, entry(made.positions[0], rest[:size]))
            del rest[:size]
        return made

    def each(sizes: Sequence[int]) -> list[bytes]:
        numbered[:-1] = list(before)
        return content(folded(sizes))

    before = list(numbered[:-1])
    assert each([len(log) or 1]) == each([1]) == each(sizes)


def test_entries_applied_already_or_cut_otherwise_are_not_added_again() -> None:
    acts = [Step(0, 11, listed=True), Step(0, 12, listed=True), Step(0, 11), Step(0, 12)]
    of = by_partition(acts)[0]
    first, both, rest = (facts.encode(entry(at, of[at:to])) for at, to in ((0, 2), (0, 4), (2, 4)))
    made = [Tables(PARTITIONS) for _ in range(3)]
    made[0].apply_stored(0, [first, rest])
    made[1].apply_stored(0, [first, both])
    made[2].apply_stored(0, [first])
    made[2].apply_stored(0, [first, rest, both])
    assert len({b"".join(content(it)) for it in made}) == 1


def test_a_hole_or_a_broken_entry_stops_after_what_came_before() -> None:
    acts = [Step(0, 11 + n, listed=True) for n in range(6)]
    of = by_partition(acts)[0]
    first, second, third = (facts.encode(entry(at, of[at : at + 2])) for at in (0, 2, 4))
    made = Tables(PARTITIONS)
    with pytest.raises(Hole, match="end at 2, the next entry of the delta log starts at 4"):
        made.apply_stored(0, [first, third])
    with pytest.raises(ValueError, match="longer"):
        made.apply_stored(0, [second, third + b"x"])
    assert made.positions[0] == 4
    with pytest.raises(ValueError, match="version"):
        made.apply_stored(0, [b"\xff\xff" + third[2:]])
    with pytest.raises(ValueError, match="buffer"):
        made.apply_stored(0, [third[:-1]])
    made.apply_stored(0, [])
    made.apply_stored(0, [third])
    assert made.positions[0] == 6


def test_facts_of_a_run_are_those_of_its_entries() -> None:
    acts = [Step(0, 11 + n % 8, listed=True, partners=(11, 12), days=n % 2) for n in range(9)]
    acts.insert(4, Step(0, 11, mark=(13, 14)))
    of = by_partition(acts)[0]
    values = [facts.encode(entry(at, of[at : at + 3])) for at in range(0, len(of), 3)]
    found = facts.decode_run(values)
    assert found is not None
    run, nexts = found
    assert nexts.tolist() == [3, 6, 9, 10]
    assert facts.encode(run) == facts.encode(entry(0, of))


def test_a_look_takes_no_memory_of_the_size_of_the_catalogue() -> None:
    """Law 17: a byte an item would be found."""
    items = 100_000
    listings = facts.Listings(np.zeros(items, np.uint32), np.arange(1, items + 1, dtype=np.uint64))
    made = Tables(PARTITIONS)
    made.apply(0, Delta(0, 1, listings=listings))
    made.publish(1)

    def look(*acts: Step) -> None:
        at = made.positions[0]
        of = by_partition([it._replace(listed=True) for it in acts])[0]
        made.apply_stored(0, [facts.encode(entry(at, of))])

    look(Step(0, 7), Step(0, items + 1), Step(0, items + 2, partners=(8, 9)))  # tables grow
    made.publish(2)
    tracemalloc.start()
    try:
        look(Step(0, 7), Step(0, 9), Step(0, 11, partners=(8, 9)))
        look(Step(0, 7), Step(0, items + 3))
        len(made.pairs)
        assert tracemalloc.get_traced_memory()[1] < items
        made.publish(3)
        assert tracemalloc.get_traced_memory()[0] < items
    finally:
        tracemalloc.stop()
