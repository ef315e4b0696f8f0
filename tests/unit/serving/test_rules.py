"""RULES: the items that each rule removes and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.control import Filter
from schemas.events import Preferences
from schemas.identity import group_hash, item_hash
from schemas.items import Item
from serving.decide.case import Ask, Case
from serving.decide.rules import RULES, eligible
from tests.support.worlds import DAY_MS, NOW, person, world

SHOP = [
    Item(item_id="plain", category="a"),
    Item(item_id="sold out", category="a", available=False),
    Item(item_id="expired", category="a", expires_at=NOW),
    Item(item_id="lasting", category="a", expires_at=NOW + 1),
    Item(item_id="to come", category="a", published_at=NOW + 1),
    Item(item_id="both", category="b", categories=("b", "c"), owner_id="o"),
    Item(
        item_id="film",
        title="the",
        category="d",
        type="film",
        tags=("t", "u"),
        published_at=NOW - DAY_MS,
    ),
]


def _preferences(**given: Any) -> Preferences:
    return Preferences(event_id="e", person="p", received_at=NOW, **given)  # type: ignore[arg-type]


def _removed(who: Any, ask: Ask) -> dict[str, set[str]]:
    case = Case(who, world(SHOP), ask)
    slots = np.arange(1, len(SHOP) + 1, dtype=np.int32)
    kept, removed = eligible(case, slots)
    gone = np.concatenate([kept, *removed.values()])
    assert sorted(gone.tolist()) == list(range(len(SHOP)))  # each is kept or removed, once
    return {
        rule: {SHOP[number].item_id for number in numbers.tolist()}
        for rule, numbers in removed.items()
        if len(numbers)
    }


GONE = {"unavailable": {"sold out", "expired", "to come"}}


@pytest.mark.parametrize(
    ("who", "ask", "more"),
    [
        ({}, {}, {}),
        ({"seen": ["plain", "never heard of"]}, {}, {"seen": {"plain"}}),
        ({"hidden": ["plain"]}, {}, {"blocked": {"plain"}}),
        ({}, {"exclude": ("lasting", "nobody")}, {"blocked": {"lasting"}}),
        ({}, {"item_id": "plain"}, {"blocked": {"plain"}}),
        ({}, {"category": "b"}, {"category": {"plain", "lasting", "film"}}),
        ({}, {"category": "nowhere"}, {"category": {"plain", "lasting", "both", "film"}}),
        ({}, {"filter": Filter()}, {}),
        ({}, {"filter": Filter(categories=("c", "d"))}, {"filter": {"plain", "lasting"}}),
        ({}, {"filter": Filter(types=("film", "z"))}, {"filter": {"plain", "lasting", "both"}}),
        ({}, {"filter": Filter(tags=("u",))}, {"filter": {"plain", "lasting", "both"}}),
        ({}, {"filter": Filter(owners=("o", "z"))}, {"filter": {"plain", "lasting", "film"}}),
        (
            {},
            {"filter": Filter(categories=("c",), tags=("u",))},
            {"filter": {"plain", "lasting", "both", "film"}},
        ),
        (
            {},
            {"filter": Filter(published_within_days=1.5)},
            {"filter": {"plain", "lasting", "both"}},
        ),
        (
            {},
            {"filter": Filter(published_within_days=0.5)},
            {"filter": {"plain", "lasting", "both", "film"}},
        ),
        ({"preferences": {"hidden_items": ("both",)}}, {}, {"hidden_item": {"both"}}),
        ({"preferences": {"hidden_categories": ("c", "z")}}, {}, {"hidden_category": {"both"}}),
        ({"preferences": {"hidden_owners": ("o", "z")}}, {}, {"hidden_owner": {"both"}}),
        ({}, {"served": item_hash("both").to_bytes(8, "little")[:4]}, {"served": {"both"}}),
    ],
)
def test_each_rule_removes_its_items(who: Any, ask: Any, more: dict[str, set[str]]) -> None:
    given = dict(who)
    if "preferences" in given:
        given["preferences"] = _preferences(**given["preferences"])
    assert _removed(person([], **given), Ask(now=NOW, **ask)) == GONE | more


@pytest.mark.parametrize(
    ("who", "ask", "rule"),
    [
        ({}, {"item_id": "red"}, "variant"),
        ({}, {"groups": ("nothing", "shirt")}, "variant"),
        ({}, {"served": group_hash("shirt").to_bytes(8, "little")[:4]}, "served"),
        ({"bought": ["\0group\0shirt", "never heard of"]}, {}, "blocked"),
        ({"bought": ["hat of no group", "red"]}, {}, "blocked"),  # bought before it had its group
        ({"hidden": ["red", "blue"]}, {}, "blocked"),
    ],
)
def test_a_rule_removes_every_variant_of_a_group(who: Any, ask: Any, rule: str) -> None:
    groups = {"red": "shirt", "blue": "shirt", "mug": "mug", "hat": ""}
    shop = [Item(item_id=it, group_id=group, category="c") for it, group in groups.items()]
    case = Case(person([], **who), world(shop), Ask(now=NOW, **ask))
    kept, removed = eligible(case, np.arange(1, 5, dtype=np.int32))
    assert kept.tolist() == [2, 3]
    own = {"blocked": {0}} if "item_id" in ask else {}
    found = {name: set(numbers.tolist()) for name, numbers in removed.items() if len(numbers)}
    assert found == own | {rule: {0, 1} - own.get("blocked", set())}


def test_every_rule_is_tried_above() -> None:
    named = {"unavailable", "blocked", "seen", "served", "category", "filter", "variant"}
    assert {rule.name for rule in RULES} == named | {
        f"hidden_{x}" for x in ("item", "category", "owner")
    }


def test_a_filter_follows_the_catalogue() -> None:
    items, filters = (shop := world(SHOP)).items, shop.filters
    wanted = Filter(types=("film",), owners=("o", "p"))

    def passing() -> set[str]:
        return {items.ids[slot] for slot in np.flatnonzero(filters.mask(wanted)).tolist()}

    assert passing() == set()
    items.put(Item(item_id="both", type="film", owner_id="o"))
    items.put(Item(item_id="newcomer", type="film", owner_id="p", category="z"))
    assert passing() == {"both", "newcomer"}
    assert filters.count_distinct("category", wanted) == 2  # z, and one without
    assert filters.count_distinct("owner", wanted) == 2
    before = filters.count_distinct("category")
    items.put(Item(item_id="one more", category="of its own"))
    assert filters.count_distinct("category") == before + 1
    items.drop("both")
    items.put(Item(item_id="newcomer", type="series", owner_id="p"))
    assert passing() == set()
    for n in range(3000):  # far more than the table remembers of its changes
        items.put(Item(item_id=f"n{n % 900}", type="film" if n % 2 else "", owner_id="o"))
    assert passing() == {f"n{n % 900}" for n in range(2100, 3000) if n % 2}


def test_the_latest_come_first() -> None:
    items = world(SHOP).items
    for n in range(5):
        items.put(Item(item_id=f"n{n}", title="the", published_at=NOW - n // 2 * DAY_MS))
    found = items.published_between(NOW - 2 * DAY_MS, NOW)
    names = [items.ids[slot] for slot in found.tolist()]
    assert [set(names[:2]), set(names[2:])] == [{"n0", "n1"}, {"n2", "n3", "film"}]
    assert (np.diff(items.hash[found[:2]].astype(object)) > 0).all()
    items.drop("n0")
    assert len(items.published_between(NOW - 2 * DAY_MS, NOW)) == 4
