"""Impressions: the items that a person was shown lately."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.outcomes.impressions import (
    IMPRESSION,
    MAX_IMPRESSIONS,
    decayed,
    read,
    reference,
    update,
    value,
    write,
)

slates = st.lists(
    st.tuples(st.integers(0, 60), st.lists(st.integers(1, 90), unique=True, max_size=12)),
    max_size=40,
)


def after(shown: list[tuple[int, list[int]]]) -> NDArray[np.void]:
    held = read(None)
    for at, items in shown:
        held = update(held, np.array(items, np.uint64), at)
    return held


@given(slates)
def test_impressions_equal_their_plain_definition(shown: list[tuple[int, list[int]]]) -> None:
    held = after(shown)
    assert value(held) == reference(shown)
    assert len(held) <= MAX_IMPRESSIONS
    assert value(read(write(held))) == value(held)
    assert value(read(held.tobytes())) == value(held)  # as version 5 of the fold stored it


def test_the_sixty_fifth_item_pushes_out_what_was_shown_longest_ago() -> None:
    full = after([(n, [n]) for n in range(1, MAX_IMPRESSIONS + 1)])
    assert full["item"].tolist() == list(range(1, MAX_IMPRESSIONS + 1))
    held = update(full, np.array([500, 1], np.uint64), 100)  # 1 is shown again in the same slate
    assert held["item"].tolist() == [*range(3, MAX_IMPRESSIONS + 1), 1, 500]
    assert value(held)[-2:] == [(1, 2, 100), (500, 1, 100)]
    late = update(held, np.array([600], np.uint64), 2)
    assert value(late) == value(held)  # older than all that is held
    back = update(held, np.array([2], np.uint64), 101)
    assert value(back)[-1] == (2, 1, 101)  # forgotten once, it counts from 1


def test_an_older_slate_that_comes_later_counts_but_is_not_the_last() -> None:
    assert value(after([(50, [7]), (40, [7])])) == [(7, 2, 50)]


def test_impressions_fade_by_half_lives_of_the_last_one() -> None:
    rows = np.array([(7, 3, 60), (8, 2, 120), (9, 5, 180)], IMPRESSION)
    assert decayed(rows, 120_000, 60_000).tolist() == [1.5, 2.0, 5.0]


def test_items_of_one_slate_share_its_time() -> None:
    rows = after([(n, [*range(10 * n + 1, 10 * n + 11)]) for n in range(7)])
    assert len(write(rows)) == 2 + 7 * 5 + 64 * 9
    rows["count"][0] = 256
    assert len(write(rows)) == 2 + 7 * 5 + 64 * 12
    assert value(read(write(rows))) == value(rows)


@pytest.mark.parametrize("cut", [1, 40, 600])
def test_bytes_that_are_no_impressions_are_refused(cut: int) -> None:
    stored = write(after([(n, [*range(9 * n + 1, 9 * n + 10)]) for n in range(9)]))
    for damaged in (stored[:-cut], stored[cut:], b"\4" + stored[1:]):
        with pytest.raises(ValueError):
            read(damaged)
