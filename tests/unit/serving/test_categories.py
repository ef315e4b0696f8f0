"""Categories of a catalogue that changes, and the items that a category asked for brings: held against the
plainest definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.memberships import MIN_ROOM, MIN_STALE, Memberships
from schemas.control import Exploration, Filter, Recipe
from schemas.items import Item
from serving.decide.case import Ask, Case
from serving.decide.decide import decide
from serving.decide.person import EMPTY_PERSON
from serving.decide.pool import LARGE_CATEGORY
from serving.decide.rules import eligible
from serving.decide.sources import popular
from serving.world.placements import POPULAR_LIST
from tests.support.worlds import NOW, popularity, world

NUMBERS = st.lists(st.integers(1, 6), unique=True, max_size=5).map(tuple)
CHANGES = st.lists(st.tuples(st.integers(1, 9), NUMBERS), max_size=120)


def check(memberships: Memberships, plain: dict[int, tuple[int, ...]], categories: int) -> None:
    slots = np.arange(1, len(memberships.primary), dtype=np.int32)
    for slot in slots.tolist():
        assert memberships.of(slot) == plain.get(slot, ())
    for number in range(1, categories + 1):
        inside = {slot for slot, numbers in plain.items() if number in numbers}
        found = memberships.slots(number).tolist()
        assert len(found) == len(set(found)) == memberships.size(number) == len(inside)
        assert set(found) == inside
        assert set(slots[memberships.has(slots, number)].tolist()) == inside
    either = {slot for slot, numbers in plain.items() if {1, 2} & set(numbers)}
    assert set(slots[memberships.has_any(slots, {1, 2})].tolist()) == either


@given(CHANGES)
def test_memberships_are_those_of_the_last_change_of_each_item(
    changes: list[tuple[int, tuple[int, ...]]],
) -> None:
    memberships, plain = Memberships(10), dict[int, tuple[int, ...]]()
    for slot, numbers in changes:
        memberships.put(slot, numbers)
        plain[slot] = numbers
    check(memberships, plain, 6)


def test_memberships_stay_the_same_as_they_are_packed_and_grow() -> None:
    memberships, plain = Memberships(64), dict[int, tuple[int, ...]]()
    rng = np.random.default_rng(1)
    for n in range(6000):  # far more runs than the pool has room for, and far more that left
        slot = 1 + int(rng.integers(0, 63))
        numbers = tuple(rng.permutation(np.arange(1, 31))[: int(rng.integers(0, 20))].tolist())
        memberships.put(slot, numbers)
        plain[slot] = numbers
        if n % 1500 == 0:
            check(memberships, plain, 30)
    memberships.grow(128)
    memberships.put(100, (1, 2))
    check(memberships, plain | {100: (1, 2)}, 30)
    held = memberships._slots.values()
    assert sum(map(len, held)) <= 2 * (64 * 20 + 30 * MIN_STALE)
    assert len(memberships.pool) <= 8 * MIN_ROOM


# -- in a decision --------------------------------------------------------------------------------


def shop(n: int) -> list[Item]:
    """Half of the items are in "sale" second, one in 50 in "rare" second; the first of 7 is their own."""
    return [
        Item(
            item_id=f"i{i}",
            title=f"t{i}",
            category=f"c{i % 7}",
            categories=(
                f"c{i % 7}",
                *(("sale",) if i % 2 else ()),
                *(("rare",) if i % 50 == 1 else ()),
            ),
            type="film" if i % 3 else "",
            available=i % 11 > 0,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("wanted", [None, Filter(types=("film",)), Filter(categories=("c1", "c3"))])
@pytest.mark.parametrize("category", ["sale", "rare", "c3", "nowhere"])
@pytest.mark.parametrize("depth", [3, 40, 1000])
def test_the_popular_items_of_a_category_are_those_of_all_that_have_it(
    category: str, wanted: Filter | None, depth: int
) -> None:
    items = shop(600)
    w = world(items, popular=popularity(items, 3))
    for n in range(0, 600, 5):  # what is put again and dropped is not there twice
        w.items.drop(f"i{n}")
        if n % 2:
            w.items.put(items[n])
    case = Case(EMPTY_PERSON, w, Ask(now=NOW, category=category, filter=wanted))
    order = w.tables.popular(case.mix)
    by_id = {item.item_id: item for item in items}
    passes = w.filters.mask(wanted) if wanted else np.ones(len(w.items.hash), np.bool_)
    expected = [
        slot
        for slot in order.tolist()
        if category in by_id[w.items.ids[slot]].categories and passes[slot]
    ]
    assert popular(case, depth).slots.tolist() == expected[:depth]
    sizes = {
        name: w.items.memberships.size(w.items.categories.find(name) or -1)
        for name in ("rare", "sale")
    }
    assert sizes["rare"] * LARGE_CATEGORY < len(order) < sizes["sale"] * LARGE_CATEGORY


@pytest.mark.parametrize("category", ["sale", "rare", "c3"])
def test_an_answer_has_every_item_of_the_category_and_no_other(category: str) -> None:
    items = shop(200)
    inside = {it.item_id for it in items if category in it.categories and it.available}
    w = world(items, popular=popularity(items, 3))
    for recipe in (w.recipe, POPULAR_LIST.recipe):
        decision = decide(
            EMPTY_PERSON, replace(w, recipe=recipe), Ask(now=NOW, category=category, count=200)
        )
        assert {item.item_id for item in decision.items} == inside
        assert decision.exhausted
    case = Case(EMPTY_PERSON, w, Ask(now=NOW, category=category))
    slots = np.arange(1, 201, dtype=np.int32)
    kept = {w.items.ids[slot] for slot in slots[eligible(case, slots).kept].tolist()}
    assert kept == inside


def test_the_cap_counts_the_primary_category_alone() -> None:
    items = [
        Item(item_id=f"i{n}", title="t", category=f"c{n}", categories=(f"c{n}", "sale"))
        for n in range(20)
    ]
    decision = decide(EMPTY_PERSON, world(items), Ask(now=NOW, count=10))
    assert len(decision.items) == 10
    assert decision.relaxed == ()
    assert decision.removed["category_cap"] == 0


# -- without a title ------------------------------------------------------------------------------


def test_an_item_without_a_title_is_neither_fresh_nor_explored_but_popular() -> None:
    items = [Item(item_id=f"bare{n}", title=" " * n, published_at=NOW) for n in range(30)]
    items += [Item(item_id=f"i{n}", title="the", published_at=NOW - 1 - n) for n in range(6)]
    often = popularity(items, 1)
    recipe = Recipe(fresh_days=1.0, exploration=Exploration(1.0))
    w = world(items, popular=often, recipe=recipe)
    fresh = w.items.published_between(0, NOW)
    assert [w.items.ids[slot] for slot in fresh.tolist()] == [f"i{n}" for n in range(6)]
    for seed in range(20):
        decision = decide(EMPTY_PERSON, w, Ask(now=NOW, count=8, seed=seed))
        drawn = [item.item_id for item in decision.items if item.explore]
        assert drawn
        assert all(name.startswith("i") for name in drawn)
        brought = {item.item_id: item.sources for item in decision.items}
        assert any(name.startswith("bare") for name in brought)
        assert not [
            name
            for name, sources in brought.items()
            if name.startswith("bare") and {"fresh", "explore"} & set(sources)
        ]
    bare = world(items[:30], popular=often, recipe=recipe)
    decision = decide(EMPTY_PERSON, bare, Ask(now=NOW, count=8, seed=1))
    assert len(decision.items) == 8
    assert not any(item.explore for item in decision.items)
    assert {item.probability for item in decision.items} == {1.0}


def test_neither_an_item_without_a_title_nor_an_old_one_is_called_new() -> None:
    items = [
        Item(item_id="bare", published_at=NOW),
        Item(item_id="of 1939", title="t", published_at=-958_521_600_000),
        Item(item_id="young", title="t", published_at=NOW - 1),
        Item(item_id="undated", title="t"),
    ]
    decision = decide(EMPTY_PERSON, world(items), Ask(now=NOW, count=4))
    codes = {item.item_id: item.reason.code for item in decision.items if item.reason}
    assert codes == {"bare": "catalogue", "of 1939": "catalogue", "young": "new", "undated": "new"}


def test_who_expires_after_2100_never_does() -> None:
    last, far, past = 4_102_444_800_000, 253_402_214_400_000, -978_307_200_000
    items = [
        Item(item_id="2100", title="t", expires_at=last),
        Item(item_id="9999", title="t", expires_at=far),
        Item(item_id="1939", title="t", expires_at=past),
        Item(item_id="old", title="t", published_at=past),
    ]
    table = world(items).items
    never = {table.ids[slot] for slot in np.flatnonzero(table.until == np.iinfo(np.int64).max)}
    assert never == {"9999", "old"}
    case = Case(EMPTY_PERSON, world(items), Ask(now=far + 1))
    slots = np.arange(1, 5, dtype=np.int32)
    kept = eligible(case, slots).kept
    assert {case.world.items.ids[slot] for slot in slots[kept].tolist()} == {"9999", "old"}
    recipe = Recipe(fresh_days=30.0)
    decision = decide(EMPTY_PERSON, world(items, recipe=recipe), Ask(now=NOW, count=3))
    assert {item.item_id for item in decision.items} == {"2100", "9999", "old"}
    assert decision.sources["fresh"] == 0
