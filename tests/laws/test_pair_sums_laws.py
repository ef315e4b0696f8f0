"""Sums of pairs and lists of neighbours are those of the slow definition, in any order and cut of the log."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.verify import table_sums
from models.aggregates import covisit, pair_sums
from models.aggregates.tables import Tables
from models.reference import recents
from models.reference.sums import Landmarks, Sums
from schemas import events
from schemas.identity import item_hash
from schemas.state import tables
from schemas.state.counting import BUILT_IN, FORMAT_1, LAG_POWERS, Counting
from schemas.state.facts import Delta
from tests.laws.world import T0, action, fold_log, log_of
from tests.support.pair_rows import pair_rows, plain_rows

MINUTE, DAY = 60_000, 86_400_000
COUNTINGS = [
    Counting(lag_power=power, backward=backward, gap=gap)  # type: ignore[arg-type]
    for power, backward, gap in itertools.product(LAG_POWERS, (0.0, 0.3, 1.0), ("session", "any"))
]
acts = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from("abcdefg"),
        st.sampled_from(["view", "click", "dislike", "purchase"]),
        st.sampled_from([MINUTE, MINUTE, 45 * MINUTE, 5 * DAY, -10 * MINUTE, -2 * DAY]),
    ),
    max_size=40,
)
cuts = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def log_of_partition(drawn: Sequence[tuple[int, str, str, int]], of: int) -> list[events.Action]:
    """The actions of the people of one of two partitions."""
    made, at = [], T0
    for n, (who, item, what, later) in enumerate(drawn):
        at = max(T0, at + later)
        if who % 2 == of:
            made.append(action(n, who, item, what, at=at, received_at=max(at, T0 + n * DAY // 4)))
    return made


def applied(entries: Sequence[Sequence[Delta]], rng: random.Random) -> Tables:
    """In order within a partition, in any order over them, stored and published on the way."""
    made, rest = Tables(2), [list(it) for it in entries]
    while any(rest):
        p = rng.choice([p for p in (0, 1) if rest[p]])
        made.apply(p, rest[p].pop(0))
        if rng.random() < 0.3:
            made = Tables.load(made.dump())
        if rng.random() < 0.3:
            made.publish(1, rng.choice(COUNTINGS))
    return made


@pytest.mark.parametrize("few", [False, True])
@settings(deadline=None, max_examples=20)
@given(acts, cuts, st.randoms(use_true_random=False), st.sampled_from(COUNTINGS))
def test_sums_and_lists_are_those_of_the_slow_definition(
    few: bool,
    drawn: list[tuple[int, str, str, int]],
    sizes: list[int],
    rng: random.Random,
    counting: Counting,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if few:  # levels are merged, and lists made, also where they are a few
            patch.setattr(pair_sums, "MIN_NEW_ROWS", 3)
            patch.setattr(pair_sums, "MAX_PENDING_PAIRS", 2)
            patch.setattr(covisit, "PAIRS_AT_ONCE", 5)
        logs = [log_of(log_of_partition(drawn, of)) for of in (0, 1)]
        made = applied([fold_log(log, sizes).entries() for log in logs], rng)
        sums = Sums(Landmarks.at(made.pairs.landmark.at))
        for log in logs:
            for its in recents.by_person([(n, event) for n, _, event in log]).values():
                sums.add(its)
        assert pair_rows(made) == pytest.approx(plain_rows(sums), rel=1e-9)
        published = Tables.load(made.dump()).publish(1, counting)
        partners = sums.partners(counting.pairs)
        assert partners.keys() <= published.neighbours.keys()
        for item, rows in published.neighbours.items():
            held, theirs = tables.neighbours(rows).tolist(), partners.get(item, {})
            assert table_sums._first_wrong_place(held, theirs, counting.backward) is None


def lists_of(log: list[events.Action], counting: Counting) -> dict[str, dict[str, float]]:
    found = fold_log(log_of(log)).tables().publish(1, counting).neighbours
    names = {item_hash(event.item_id): event.item_id for event in log}
    return {
        names[item]: {
            names[it]: round(score, 6) for it, score, *_ in tables.neighbours(rows).tolist()
        }
        for item, rows in found.items()
    }


def test_people_who_come_back_days_later_have_pairs() -> None:
    """One film an evening, as on a set where pairs within sessions were none."""
    log = [
        action(3 * n + who, who, film, at=T0 + n * 3 * DAY + who * MINUTE)
        for n, film in enumerate(["alien", "brazil", "casablanca"])
        for who in (1, 2)
    ]
    assert lists_of(log, FORMAT_1) == {"alien": {}, "brazil": {}, "casablanca": {}}
    found = lists_of(log, BUILT_IN)
    assert list(found["alien"]) == ["brazil", "casablanca"]  # one film later, two films later
    assert list(found["brazil"]) == ["casablanca", "alien"]  # what came next, what came before
    assert found["alien"] == pytest.approx({"brazil": 2 / 3, "casablanca": 1 / 3}, abs=1e-3)
    assert found["brazil"] == pytest.approx({"casablanca": 2 / 3, "alien": 1 / 3}, abs=1e-3)


def test_what_came_first_is_told_from_what_came_next() -> None:
    log = [action(0, 1, "phone"), action(1, 1, "case"), action(2, 1, "charger")]
    next_only = Counting(backward=0.0)
    assert lists_of(log, next_only)["case"] == {"charger": 1.0}
    assert lists_of(log, next_only)["charger"] == {}
    both = Counting(backward=1.0)
    assert lists_of(log, both)["case"] == pytest.approx({"charger": 0.5, "phone": 0.5}, abs=1e-6)
    turned = [log[2], log[1], log[0]]
    again = [action(n, 1, it.item_id) for n, it in enumerate(turned)]
    assert lists_of(again, next_only)["case"] == {"phone": 1.0}
    assert lists_of(again, both) == lists_of(log, both)
