"""Lists in a few arrays are those of a dictionary of lists, however often they are rewritten; hashes are
found by open addressing as by a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import open_addressing
from models.lookup import among, last_places
from models.release import content
from models.vocabulary import Categories, Groups
from schemas.identity import category_hash, group_hash, item_hash
from schemas.items import Item
from serving.world import neighbours
from serving.world.catalogue import ItemTable
from serving.world.neighbours import Lists, NeighbourLists, Neighbours

SLOTS = 12
one_list = st.lists(st.integers(1, 99), max_size=40)
changes = st.lists(st.dictionaries(st.integers(1, SLOTS), one_list, min_size=1), max_size=25)


def lists_of(change: dict[int, list[int]]) -> Lists:
    listed = np.array([slot for each in change.values() for slot in each], np.int32)
    single = (listed / 128).astype(np.float32)
    half = (listed / 128).astype(np.float16)
    lengths = np.array([len(each) for each in change.values()], np.int32)
    return Lists(np.array(list(change), np.int32), lengths, Neighbours(listed, single, half, half))


def rows_of(found: Neighbours) -> list[tuple[float, ...]]:
    columns = (found.slots, found.scores, found.forward, found.backward)
    return [tuple(row) for row in zip(*(it.tolist() for it in columns), strict=True)]


@settings(deadline=None)
@given(changes, st.integers(0, 25))
def test_lists_are_those_of_a_dictionary(versions: list[dict[int, list[int]]], clear: int) -> None:
    held, expected = NeighbourLists(4), dict[int, list[int]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "MIN_ROOM", 16)
        held.clear()
        for at, change in enumerate(versions):
            if at == clear:
                held.clear()
                expected.clear()
            held.grow(SLOTS + 1)
            before, layout = (held.starts, held.slots, held.scores, held.backward), held.layout
            held.put(lists_of(change))
            expected |= change
            if held.layout == layout:
                now = (held.starts, held.slots, held.scores, held.backward)
                assert all(one is other for one, other in zip(before, now, strict=True))
            assert held.owners().tolist() == sorted(it for it in expected if expected[it])
            assert len(held) == len(held.owners())
            for slot in range(len(held.lengths)):
                assert held.get(slot).slots.tolist() == expected.get(slot, [])
                assert [row[1] * 128 for row in rows_of(held.get(slot))] == expected.get(slot, [])
    wanted = (
        np.array([3, 1, 1, SLOTS], np.int32) if len(held.lengths) > 4 else np.zeros(4, np.int32)
    )
    runs = held.of(wanted)
    apart = [held.get(slot) for slot in wanted.tolist()]
    places_of = runs.places
    gathered = Neighbours(
        held.slots[places_of],
        held.scores[places_of],
        held.forward[places_of],
        held.backward[places_of],
    )
    assert rows_of(gathered) == [row for each in apart for row in rows_of(each)]
    assert runs.which.tolist() == [n for n, each in enumerate(apart) for _ in each.slots]


def test_the_pools_stay_in_proportion_to_what_is_held() -> None:
    held = NeighbourLists(64)
    for n in range(2000):
        held.put(lists_of({1 + n % 60: [1] * (1 + n % 50)}))
    held.put(lists_of({slot: [slot] * 50 for slot in range(1, 61)}))
    assert len(held.slots) <= 4 * 60 * 56
    assert [held.get(slot).slots.tolist() for slot in (1, 60)] == [[1] * 50, [60] * 50]


@given(st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=40), st.data())
def test_hashes_are_found_as_in_a_dictionary(hashes: list[int], data: st.DataObject) -> None:
    # many of them in a few places, at the end of the table, too
    near = [value | data.draw(st.sampled_from([0, 120, 126, 127])) for value in hashes]
    hashes = list(dict.fromkeys(near))
    column = np.array([0, *hashes], np.uint64)
    table = open_addressing.made(column, 128)
    one_by_one = np.zeros(128, np.int32)
    for number, value in enumerate(hashes, 1):
        open_addressing.put(one_by_one, value, number)
    numbers = dict(zip(hashes, range(1, 100), strict=False))
    wanted = [*hashes, *data.draw(st.lists(st.integers(0, 2**64 - 1))), 127, 255]
    for held in (table, one_by_one):
        expected = [numbers.get(value, 0) for value in wanted]
        assert [open_addressing.find(held, column, value) for value in wanted] == expected
        assert (
            open_addressing.locate(held, column, np.array(wanted, np.uint64)).tolist() == expected
        )


def test_a_table_finds_its_items_groups_and_categories_while_it_grows() -> None:
    table, layouts = ItemTable(capacity=4), set()
    for n in range(300):
        table.put(Item(item_id=f"i{n}", category=f"c{n % 200}", group_id=f"g{n % 180}"))
        layouts.add(table.layout)
    assert len(layouts) >= 8
    hashes = np.array([item_hash(f"i{n}") for n in range(301)], np.uint64)
    assert table.locate(hashes).tolist() == [*range(1, 301), 0]
    assert [table.find(f"i{n}") for n in range(301)] == [*range(1, 301), 0]
    groups, categories = table.groups, table.categories
    for n in range(180):
        assert groups.texts[groups.find_hash(group_hash(f"g{n}"))] == f"g{n}"
    assert groups.find_hash(group_hash("another")) == 0
    assert np.count_nonzero(groups.places) * 2 <= len(groups.places)
    named = np.array([category_hash(f"c{n}") for n in range(200)], np.uint32)
    texts = [categories.texts[number] for number in categories.numbers_of(named).tolist()]
    assert texts == [f"c{n}" for n in range(200)]
    assert table.categories_of(hashes[:200]).tolist() == named.tolist()
    assert categories.numbers_of(np.array([0, 1], np.uint32)).tolist() == [0, 0]
    assert table.categories_of(np.array([5], np.uint64)).tolist() == [0]


def test_of_two_categories_with_one_hash_the_last_named_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.vocabulary.category_hash", lambda text: 1 + len(text) % 2)
    held = Categories()
    for text, expected in (("a", "a"), ("bcd", "bcd"), ("a", "a"), ("ef", "a")):
        held.number(text)
        assert held.texts[held.numbers_of(np.array([2], np.uint32)).item()] == expected
    for n in range(100):
        held.number("a" * (2 * n + 1))
    assert held.numbers_of(np.array([2, 1], np.uint32)).tolist() == [held.number("a" * 199), 3]


def test_groups_are_found_by_their_own_hash_only() -> None:
    groups = Groups()
    assert groups.find_hash(0) == 0
    assert groups.number("") == 0


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
def test_the_last_place_of_a_slot_is_that_of_a_dictionary(
    listed: list[int], slots: list[int]
) -> None:
    held = {slot: place for place, slot in enumerate(listed)}
    of, wanted = np.array(listed, np.int32), np.array(slots, np.int32)
    assert last_places(of, wanted, 31).tolist() == [held.get(slot, -1) for slot in slots]
    assert among(of, wanted, 3000).tolist() == [slot in held for slot in slots]


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_or_of_another_dimension_is_refused(broken: float) -> None:
    table, vector = ItemTable(), np.zeros(content.DIM, np.float32)
    vector[7] = broken
    for refused in (vector, vector[None], vector[:1], np.zeros(content.DIM + 1, np.float32)):
        with pytest.raises(ValueError, match="vector"):
            table.put(Item(item_id="a"), refused)
    assert not table.find("a")
