"""Pauses before what failed is tried again: they grow to a bound, and begin anew once it worked."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.backoff import FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS, STABLE_SECONDS, Pauses

SECONDS = st.floats(0.001, 60.0)


@given(SECONDS, SECONDS, st.floats(1.01, 4.0), st.integers(0, 30))
def test_each_pause_is_a_multiple_of_the_one_before_up_to_the_longest(
    first: float, last: float, factor: float, n: int
) -> None:
    first = min(first, last)
    (pause,) = islice(Pauses(first, last, factor), n, n + 1)
    assert pause == pytest.approx(min(first * factor**n, last))


@given(st.lists(st.floats(0.0, 2 * STABLE_SECONDS), max_size=30))
def test_after_a_run_that_worked_the_first_pause_comes_again(runs: list[float]) -> None:
    pauses, failures = Pauses(), 0
    for seconds in runs:
        failures = 1 if seconds >= STABLE_SECONDS else failures + 1
        assert pauses.after(seconds) == min(
            FIRST_DELAY_SECONDS * 2 ** (failures - 1), MAX_DELAY_SECONDS
        )


def test_reset_gives_the_first_pause_again() -> None:
    pauses = Pauses(0.002, 0.010, 1.2)
    assert [round(it, 5) for it in islice(pauses, 3)] == [0.002, 0.0024, 0.00288]
    pauses.reset()
    assert next(pauses) == 0.002
