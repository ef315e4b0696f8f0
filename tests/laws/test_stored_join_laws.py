"""The compiled join of slates, in the fold, leaves what the join by Python does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.people import slates
from models.kernels import kernel
from models.outcomes.stored_join import StoredJoin
from models.outcomes.touched import Reach
from tests.laws.test_outcome_laws import build, busy, one_record, splits
from tests.laws.world import Memory, Record, fold_log

pytestmark = pytest.mark.skipif(kernel is None, reason="no kernel was built")


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


@given(st.lists(one_record, min_size=1, max_size=60), splits)
def test_state_of_one_is_read_by_the_other(
    drawn: list[dict[str, object]], sizes: list[int]
) -> None:
    check(build(drawn), sizes)


def test_of_two_busy_people_too() -> None:
    check(busy(5, 300), [7])
