"""The order of scores: a float and its tie-break in one integer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.decide.score import order_by_score

scores = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 1.0])


@given(
    st.lists(st.tuples(scores, st.integers(0, 2**32 - 1)), max_size=50, unique_by=lambda x: x[1])
)
def test_scores_sort_highest_first_and_equal_ones_by_the_lesser_key(
    given: list[tuple[float, int]],
) -> None:
    totals = np.array([score for score, _ in given], np.float32) + np.float32(0)
    tie_breaks = np.array([tie_break for _, tie_break in given], np.uint64)
    wanted = sorted(range(len(given)), key=lambda i: (-float(totals[i]), given[i][1]))
    assert order_by_score(totals, tie_breaks).tolist() == wanted
