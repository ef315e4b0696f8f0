"""Items that come after their events: law 4 and law 15 for the tables, against the slow definition."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregates import waiting_day, waiting_log
from models.aggregates.popularity import HALF_LIVES
from models.aggregates.tables import Tables
from models.aggregates.waiting import Limits
from models.features.plain import Event
from models.reference.sums import Landmarks, Sums, grown
from models.reference.waiting import WaitingReference
from schemas.actions import CODE
from schemas.state import facts
from schemas.state.facts import BACK, IMPORTED, SAME_SESSION, UNKNOWN, Delta
from tests.support.pair_rows import pair_rows, plain_rows

PARTITIONS, START = 2, 1_760_000_000
LIMITS = Limits(live=3, imported=4, days=2)
ITEMS = tuple(range(11, 19))


@pytest.fixture(params=["many", "few"], scope="module", autouse=True)
def bounds(request: pytest.FixtureRequest) -> Iterator[None]:
    """What waits is packed, and becomes sums, also where it is a few actions."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "few":
            patch.setattr(waiting_log, "ACTIONS_PER_BLOCK", 2)
            patch.setattr(waiting_day, "MIN_FACTS", 2)
            patch.setattr(waiting_day, "FACTS_PER_ID", 1)
        yield


class Step(NamedTuple):
    """A record: an action (item, listed, imported, back, partners), items listed, or only a new day."""

    partition: int
    item: int
    listed: bool = False
    imported: bool = False
    back: bool = False
    partners: tuple[int, ...] = ()
    mark: tuple[int, ...] = ()
    days: int = 0
    """Before this record the newest record time came so many days further."""


items = st.sampled_from(ITEMS)
steps = st.lists(
    st.builds(
        Step,
        st.integers(0, PARTITIONS - 1),
        items,
        st.sampled_from([False, False, False, True]),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
        st.lists(items, max_size=3, unique=True).map(tuple),
        st.one_of(st.just(()), st.just(()), st.lists(items, min_size=1, max_size=3).map(tuple)),
        st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3]),
    ),
    max_size=40,
)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def event(n: int, step: Step) -> Event:
    code = CODE["purchase"] if n % 3 else CODE["view"]
    time = (START + 60 * n) * 1000
    return Event(n, step.item, 0, time, code, in_catalogue=step.listed, imported=step.imported)


def partners_of(step: Step) -> list[tuple[int, int]]:
    if step.back:
        return []
    within = SAME_SESSION * (step.item % 2)
    return [(it, lag | within) for lag, it in enumerate(step.partners, 1) if it != step.item]


def entry(first: int, made: Sequence[tuple[int, Step, int]]) -> Delta:
    """The facts of these records: number, step, day."""
    acts = [(at, n, it) for at, (n, it, _) in enumerate(made) if not it.mark]
    pairs = [pair for _, _, it in acts for pair in partners_of(it)]
    marks = [(at, item) for at, (_, it, _) in enumerate(made) for item in it.mark]
    days = [(at, day) for at, (_, it, day) in enumerate(made) if it.days]
    flags = [
        BACK if it.back else (0 if it.listed else UNKNOWN) | (IMPORTED if it.imported else 0)
        for _, _, it in acts
    ]
    made_entry = Delta(
        first,
        first + len(made),
        facts.Actions(
            np.array([at for at, _, _ in acts], np.uint32),
            np.array([it.item for _, _, it in acts], np.uint64),
            np.array([event(n, it).time // 1000 for _, n, it in acts], np.uint32),
            np.array([event(n, it).action for _, n, it in acts], np.uint8),
            np.array(flags, np.uint8),
            np.array([len(partners_of(it)) for _, _, it in acts], np.uint8),
            np.array([item for item, _ in pairs], np.uint64),
            np.array([lag for _, lag in pairs], np.uint8),
        ),
        days=facts.Days(
            np.array([at for at, _ in days], np.uint32), np.array([d for _, d in days], np.uint16)
        ),
        listings=facts.Listings(
            np.array([at for at, _ in marks], np.uint32), np.array([i for _, i in marks], np.uint64)
        ),
    )
    return facts.decode(facts.encode(made_entry))


def by_partition(log: Sequence[Step]) -> list[list[tuple[int, Step, int]]]:
    of: list[list[tuple[int, Step, int]]] = [[] for _ in range(PARTITIONS)]
    day = [0] * PARTITIONS
    for n, step in enumerate(log):
        day[step.partition] += step.days
        of[step.partition].append((n, step, day[step.partition]))
    return of


def folded(log: Sequence[Step], sizes: Sequence[int], rng: random.Random) -> Tables:
    """In any cut, any order of the partitions, stored and published on the way."""
    made = Tables(PARTITIONS, LIMITS)
    waiting = {p: list(of) for p, of in enumerate(by_partition(log)) if of}
    while waiting:
        p = rng.choice(sorted(waiting))
        size = rng.choice(sizes)
        made.apply(p, entry(made.positions[p], waiting[p][:size]))
        del waiting[p][:size]
        if not waiting[p]:
            del waiting[p]
        if rng.random() < 0.3:
            made = Tables.load(made.dump())
        elif rng.random() < 0.2:
            made.publish(1)
    return made


def slow(log: Sequence[Step], marks: Landmarks) -> tuple[Sums, list[WaitingReference]]:
    sums, waits = [], []
    for of in by_partition(log):
        mine, waiting = Sums(marks), WaitingReference(LIMITS)
        for n, step, day in of:
            waiting.advance(day)
            for item in step.mark:
                waiting.include(item, mine)
            if step.mark:
                continue
            if step.back:
                e = event(n, step)
                waiting.back(e.item, e.time // 1000, e.action, mine)
            else:
                waiting.fact(event(n, step), partners_of(step), mine)
        sums.append(mine)
        waits.append(waiting)
    return Sums.of(sums), waits


def rows_of(made: Tables) -> dict[int, list[float]]:
    sums = made.popularity.sums[: len(made.items)].tolist()
    return dict(zip(made.items.hashes.tolist(), sums, strict=True))


def current(made: Tables) -> dict[int, list[float]]:
    """The rows as of `START`."""
    rates = [float(mark.now(np.ones(1), START)[0]) for mark in made.popularity.landmarks]
    return {
        item: [a * b for a, b in zip(row, rates, strict=True)]
        for item, row in rows_of(made).items()
    }


def marks_of(made: Tables) -> Landmarks:
    return Landmarks([mark.at for mark in made.popularity.landmarks], made.pairs.landmark.at)


@settings(deadline=None)
@given(steps, cuts, st.randoms(use_true_random=False))
def test_any_cut_and_order_of_the_partitions_give_what_the_slow_definition_gives(
    log: list[Step], sizes: list[int], rng: random.Random
) -> None:
    made = folded(log, sizes, rng)
    sums, waits = slow(log, marks_of(made))
    # what is taken back leaves the rounding of what was there
    scale = [
        grown(START - mark, h)
        for mark, h in zip(sums.marks.items, HALF_LIVES.values(), strict=True)
    ]

    def scaled(rows: Mapping[Any, list[float]]) -> dict[Any, list[float]]:
        return {k: [v / s for v, s in zip(row, scale, strict=True)] for k, row in rows.items()}

    def near(rows: Mapping[Any, list[float]]) -> dict[Any, Any]:
        return {k: pytest.approx(row, rel=1e-9, abs=1e-9) for k, row in scaled(rows).items()}

    expected = {**dict.fromkeys(rows_of(made), [0.0] * 4), **sums.popularity}
    assert near(expected) == scaled(rows_of(made))
    assert pair_rows(made) == pytest.approx(plain_rows(sums), rel=1e-9)
    for p, waiting in enumerate(waits):
        held = {
            (n, item): row
            for n, day in made.waiting.days[p].items()
            for item, row, counted in zip(
                day.ids.tolist(),
                day.sums_of(made.popularity).tolist(),
                day.counted.tolist(),
                strict=True,
            )
            if counted
        }
        assert near(waiting.rows()) == scaled(held)
    counts = [waiting.counts() for waiting in waits]
    meta = made.meta(1)
    for name in counts[0]:
        assert getattr(meta, name) == sum(it[name] for it in counts), name


@settings(deadline=None)
@given(st.permutations(range(12)), cuts, st.randoms(use_true_random=False))
def test_items_listed_after_their_events_count_as_if_they_had_been_before(
    order: list[int], sizes: list[int], rng: random.Random
) -> None:
    """Below the limits, and within the days."""
    acts = [Step(0, ITEMS[n % 3], partners=(ITEMS[(n + 1) % 3],)) for n in order]
    mark = Step(0, 0, mark=ITEMS[:3])
    # a step more takes a number, so that the times of the actions are equal
    later = folded([Step(0, 0, mark=(99,)), *acts, mark], sizes, rng)
    before = folded([mark, *acts, Step(0, 0, mark=(99,))], sizes, rng)
    assert later.waiting.ids == later.waiting.pairs == 0
    assert current(later).keys() == current(before).keys()
    for item, sums in current(later).items():
        assert sums == pytest.approx(current(before)[item], rel=1e-9)
    one, other = (sorted(pair_rows(made).values()) for made in (later, before))
    assert one == pytest.approx(other, rel=1e-9)


def test_rows_of_items_that_no_partition_has_listed_are_not_published() -> None:
    log = [Step(0, 11), Step(1, 12, listed=True, partners=(11,))]
    made = folded(log, [9], random.Random(1))
    found = made.publish(1)
    assert found.popularity.keys() == {12}
    assert found.neighbours == {12: b""}
    assert (found.meta.waiting_items, found.meta.waiting_pairs) == (1, 1)


def test_a_day_goes_with_what_waits_in_it() -> None:
    log = [Step(0, 11, days=1), Step(0, 12, days=LIMITS.days), Step(0, 12, days=1)]
    made = folded([*log, Step(0, 0, mark=(11, 12))], [9], random.Random(1))
    assert rows_of(made)[11] == [0.0] * 4
    assert min(rows_of(made)[12]) > 0
