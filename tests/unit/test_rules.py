"""RULES: what goes, and under whose name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.event import Preferences
from schemas.identity import item_hash
from schemas.item import Item
from serving.case import Ask, Case
from serving.rules import RULES, eligible
from tests.unit.worlds import NOW, person, world

SHOP = [
    Item(item_id="plain", category="a"),
    Item(item_id="sold out", category="a", available=False),
    Item(item_id="expired", category="a", expires_at=NOW),
    Item(item_id="lasting", category="a", expires_at=NOW + 1),
    Item(item_id="to come", category="a", published_at=NOW + 1),
    Item(item_id="both", category="b", categories=("b", "c"), owner_id="o"),
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
        ({"seen": ["plain", "never heard of"]}, {}, {"blocked": {"plain"}}),
        ({"hidden": ["plain"]}, {}, {"blocked": {"plain"}}),
        ({}, {"exclude": ("lasting", "nobody")}, {"blocked": {"lasting"}}),
        ({}, {"item_id": "plain"}, {"blocked": {"plain"}}),
        ({}, {"category": "b"}, {"category": {"plain", "lasting"}}),
        ({}, {"category": "nowhere"}, {"category": {"plain", "lasting", "both"}}),
        ({"preferences": {"hidden_items": ("both",)}}, {}, {"hidden_item": {"both"}}),
        ({"preferences": {"hidden_categories": ("c", "z")}}, {}, {"hidden_category": {"both"}}),
        ({"preferences": {"hidden_owners": ("o", "z")}}, {}, {"hidden_owner": {"both"}}),
        ({}, {"served": item_hash("both").to_bytes(8, "little")[:4]}, {"served": {"both"}}),
    ],
)
def test_what_each_rule_takes(who: Any, ask: Any, more: dict[str, set[str]]) -> None:
    given = dict(who)
    if "preferences" in given:
        given["preferences"] = _preferences(**given["preferences"])
    assert _removed(person([], **given), Ask(now=NOW, **ask)) == GONE | more


def test_every_rule_is_tried_above() -> None:
    named = {"unavailable", "blocked", "served", "category"}
    assert {rule.name for rule in RULES} == named | {
        f"hidden_{x}" for x in ("item", "category", "owner")
    }
