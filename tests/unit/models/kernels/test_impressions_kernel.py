"""Impressions by the kernel against their definition by numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel
from models.outcomes.impressions import (
    IMPRESSION,
    read,
    read_by_numpy,
    updated,
    updated_by_numpy,
    value,
)

pytestmark = pytest.mark.skipif(kernel is None, reason="no kernel was built")
some_items = st.lists(st.integers(1, 90) | st.integers(0, 2**64 - 1), max_size=30)
shown = st.lists(st.tuples(st.integers(0, 2**32 - 1) | st.integers(5, 9), some_items), max_size=25)


def packed(items: list[int]) -> bytes:
    return np.array(items, "<u8").tobytes()


@given(shown)
def test_the_kernel_gives_the_bytes_of_numpy(slates: list[tuple[int, list[int]]]) -> None:
    stored = b""
    for at, items in slates:
        before, stored = stored, updated(stored, packed(items), at)
        assert stored == updated_by_numpy(before, packed(items), at)
        # what version 5 of the fold stored gives the same
        assert stored == updated(read(before).tobytes(), packed(items), at)
        assert value(read(stored)) == value(read_by_numpy(stored))


def test_counts_beyond_a_byte_are_stored_wider() -> None:
    stored = np.array([(7, 255, 5), (8, 2**32 - 1, 6)], IMPRESSION).tobytes()
    for _ in range(3):
        before, stored = stored, updated(stored, packed([7, 8]), 9)
        assert stored == updated_by_numpy(before, packed([7, 8]), 9)
    assert value(read(stored)) == [(7, 258, 9), (8, 2, 9)]


@given(st.binary(max_size=1100), some_items)
def test_any_bytes_are_refused_or_read_alike(stored: bytes, items: list[int]) -> None:
    try:
        expected = value(read_by_numpy(stored))
    except ValueError:
        with pytest.raises(ValueError):
            updated(stored, packed(items), 9)
        return
    assert value(read(stored)) == expected
    if len(expected) <= 64:
        assert len(read(updated(stored, packed(items), 9))) <= 64
