"""The names of a person's slots by the kernel against their definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel
from models.outcomes.layout import indexed, indexed_by_python

pytestmark = pytest.mark.skipif(kernel is None, reason="no kernel was built")


@given(st.lists(st.integers(0, 40) | st.integers(0, 2**64 - 1), max_size=300))
def test_slots_are_named_by_the_items_in_their_order(slots: list[int]) -> None:
    packed = b"".join(item.to_bytes(8, "little") for item in slots)
    assert indexed(packed) == indexed_by_python(packed)


@pytest.mark.parametrize("n", [2047, 2048, 2049])
def test_as_many_as_the_kernel_takes_and_more(n: int) -> None:
    packed = b"".join((7 * k % 2100).to_bytes(8, "little") for k in range(n))
    assert indexed(packed) == indexed_by_python(packed)
