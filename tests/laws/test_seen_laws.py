"""Laws of what a person has seen: the string equals its slow definition, and no compaction changes what a
reader takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models import seen
from models.reference import seen as reference
from models.reference.seen import SeenEntry, SeenItem, SeenString
from schemas.actions import ACTIONS, CODE, RECENT

BITS = [1, 2, 4, 8, 16, 32, 34, 8 + 64, 16 + 128, 34 + 192]
entry = st.tuples(st.integers(1, 9), st.integers(1, 30), st.sampled_from(BITS))
entries = st.lists(entry, max_size=200)
MANY = 10**6


def array(found: Sequence[SeenEntry]) -> seen.Entries:
    return np.array(found, seen.ENTRY)


def items(found: seen.Entries) -> dict[int, SeenItem]:
    return {
        item: SeenItem(*rest)
        for item, *rest in zip(*(column.tolist() for column in seen.by_item(found)), strict=True)
    }


def growing(found: Sequence[SeenEntry], max_items: int) -> SeenString:
    string = SeenString(max_items)
    for each in found:
        string.append(each)
    return string


def extended(found: Sequence[SeenEntry], sizes: Sequence[int], max_items: int) -> tuple[Any, int]:
    string, limit, rest = seen.NONE, seen.MIN_LIMIT, list(found)
    for size in [*sizes, len(rest)]:
        string, limit = seen.extended(string, limit, array(rest[:size]), max_items)
        rest = rest[size:]
    return string, limit


@given(entries)
def test_a_reading_equals_its_slow_definition(found: list[SeenEntry]) -> None:
    assert items(array(found)) == reference.by_item(found)


@given(entries, st.lists(st.integers(0, 70), max_size=6), st.sampled_from([0, 1, 4, 9, MANY]))
def test_law_4_any_split_gives_the_same_string_byte_for_byte(
    found: list[SeenEntry], sizes: list[int], max_items: int
) -> None:
    string, limit = extended(found, sizes, max_items)
    whole, limit_of_whole = extended(found, [], max_items)
    assert (string.tobytes(), limit) == (whole.tobytes(), limit_of_whole)
    slow = growing(found, max_items)
    assert (string.tolist(), limit) == (slow.entries, slow.limit or seen.MIN_LIMIT)


@given(entries, entries)
def test_no_compaction_changes_what_a_reader_takes_from_it(
    head: list[SeenEntry], tail: list[SeenEntry]
) -> None:
    compact = seen.compacted(array(head), MANY)
    assert items(np.concatenate([compact, array(tail)])) == items(array(head + tail))
    assert len(compact) <= 2 * len(set(compact["item"].tolist()))


@given(entries, st.integers(0, 9))
def test_the_bound_of_items_keeps_purchases_dislikes_and_hides(
    found: list[SeenEntry], max_items: int
) -> None:
    compact = seen.compacted(array(found), max_items)
    assert compact.tolist() == reference.compacted(found, max_items)
    before, after = items(array(found)), items(compact)
    kept = {item for item, it in before.items() if it.hidden or it.bits & seen.PURCHASE}
    assert kept <= after.keys()
    assert all(after[item] == before[item] for item in after)
    assert len(after) == min(len(before), max(max_items, len(kept)))
    gone = [max(it.time, it.since) for item, it in before.items() if item not in after]
    stays = [max(it.time, it.since) for item, it in after.items() if item not in kept]
    assert not gone or not stays or max(gone) <= min(stays)


def test_twenty_thousand_items_and_what_is_never_evicted() -> None:
    rng = np.random.default_rng(1)
    bits = rng.choice([seen.VIEW, seen.CLICK], 30_000)
    bits[:50], bits[50:100], bits[100:150] = seen.PURCHASE, seen.DISLIKE, seen.HIDE
    found = seen.entries(np.arange(1, 30_001), np.arange(1, 30_001), bits)
    string, limit = seen.extended(seen.NONE, seen.MIN_LIMIT, found)
    string = seen.compacted(string, seen.MAX_ITEMS)
    assert len(string) == seen.MAX_ITEMS
    assert set(range(1, 151)) <= set(string["item"].tolist())
    assert string["item"][150] == 10_151
    assert limit <= 2 * 2 * seen.MAX_ITEMS + seen.MIN_LIMIT


def test_every_action_of_the_list_says_what_was_seen() -> None:
    assert seen.ENTRY.itemsize == 13
    for code, action in enumerate(ACTIONS):
        assert seen.BITS[code] == reference.bits_of(code, 0)
        for ms in (0, 249, 250, 999):
            assert seen.bits_of(code, np.int64(ms)) == reference.bits_of(code, ms)
        assert bool(seen.BITS[code]) or not RECENT[code], action.name
    assert set(np.flatnonzero(seen.APPENDED)) == {CODE["hide"], CODE["unhide"]}
