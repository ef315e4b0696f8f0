"""Numbers of hashes are those of their first appearance, whatever their index looks like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregates import numbers
from models.aggregates.numbers import DenseNumbers

hashes = st.sampled_from([0, 1, 2, 3, 5, 8, 2**63, 2**64 - 2, 2**64 - 1])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.one_of(hashes, st.integers(0, 2**64 - 1)), max_size=8), max_size=12))
def test_a_hash_has_the_number_of_its_first_appearance(rounds: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "MIN_NEW", 2)
        made, expected = DenseNumbers(), dict[int, int]()
        for each in rounds:
            asked = np.array(each, np.uint64)
            before = [expected.get(it, -1) for it in each]
            assert made.find(asked).tolist() == before
            for it in each:
                expected.setdefault(it, len(expected))
            assert made.of(asked).tolist() == [expected[it] for it in each]
        assert (len(made), made.hashes.tolist()) == (len(expected), list(expected))
        again = DenseNumbers(made.hashes.copy())
        every = np.array([*expected, 7], np.uint64)
        assert again.find(every).tolist() == made.find(every).tolist()
