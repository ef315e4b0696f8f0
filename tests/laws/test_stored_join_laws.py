"""The compiled join of slates, in the fold, leaves what the join by Python does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.people import slates
from models.kernels.loading import kernel
from models.outcomes.stored_join import StoredJoin
from models.outcomes.touched import Reach
from schemas import events
from tests.laws.test_outcome_laws import (
    EXPERIMENTS,
    HOUR,
    PEOPLE,
    build,
    busy,
    one_record,
    splits,
)
from tests.laws.world import T0, Memory, Record, action, fold_log, log_of, served

pytestmark = pytest.mark.skipif(kernel is None, reason="no kernel was built")


visits = st.lists(
    st.tuples(
        st.sampled_from(
            ["served"] * 3 + ["click", "click", "display", "purchase", "order", "order"]
        ),
        st.sampled_from(PEOPLE),
        st.integers(0, 3),
        st.sampled_from([0, 1000, HOUR, 7 * HOUR]),
        st.sampled_from(EXPERIMENTS),
    ),
    min_size=5,
    max_size=80,
)


def visited(drawn: Sequence[tuple[str, int, int, int, Any]]) -> list[Record]:
    """People act on slates that they were shown, as nearly all do."""
    made: list[events.Event] = []
    seen: dict[int, list[int]] = {who: [] for who in PEOPLE}
    now = T0
    for n, (what, who, number, gap, experiments) in enumerate(drawn):
        now += gap
        if what == "served":
            seen[who].append(n)
            named = [f"i{(n * 3 + k) % 11}" for k in range(4)]
            more = {"explored": number, "experiments": experiments}
            made.append(served(f"s{n}", named, who, now, **more))
        elif seen[who]:
            slate = seen[who][-1 - number % len(seen[who])]
            item = f"i{(slate * 3 + number + (what == 'order') * 3) % 11}"
            more = {} if what == "order" else {"slate_id": f"s{slate}"}
            made.append(action(n, who, item, what.replace("order", "purchase"), at=now, **more))
    return log_of(made)


def fold_by(log: Sequence[Record], sizes: Sequence[int], compiled: Iterator[bool]) -> Memory:
    """Folds the log with a new fold for every batch, whose join is compiled or not."""

    def joined(reach: Reach) -> StoredJoin:
        made = StoredJoin(reach)
        made.compiled = next(compiled)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slates, "StoredJoin", joined)
        return fold_log(log, sizes, restart=True)


def check(log: Sequence[Record], sizes: Sequence[int]) -> None:
    by_kernel = fold_by(log, sizes, cycle([True]))
    for other in (cycle([False]), cycle([True, False])):
        found = fold_by(log, sizes, other)
        assert found.state() == by_kernel.state()
        assert found.all_facts() == by_kernel.all_facts()
        assert found.counts == by_kernel.counts


@settings(max_examples=30)
@given(st.lists(one_record, min_size=1, max_size=60), splits)
def test_state_of_one_is_read_by_the_other(
    drawn: list[dict[str, object]], sizes: list[int]
) -> None:
    check(build(drawn), sizes)


@settings(max_examples=30)
@given(visits, splits)
def test_of_people_who_act_on_what_they_see(drawn: list[Any], sizes: list[int]) -> None:
    if log := visited(drawn):
        check(log, sizes)


def test_of_two_busy_people_too() -> None:
    check(busy(5, 200), [7])
