"""What a person has seen, as a decision reads it: by kind of action, by time, and with what ends a hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import seen
from models.reference.seen import SeenEntry, by_item
from schemas.actions import CODE
from schemas.control import Recipe, Repeat, duration_ms
from schemas.identity import item_hash
from schemas.items import Item
from serving.decide.case import Ask, Case
from serving.decide.decide import decide
from serving.decide.person import EMPTY_PERSON, Person
from serving.read import cursor
from serving.world.placements import BUILT_IN_RECIPES
from tests.support.worlds import DAY_MS, NOW, world

NAMES = [f"i{n}" for n in range(6)]
SHOP = [Item(item_id=name) for name in NAMES]
DAY_S = DAY_MS // 1000
NOW_S = NOW // 1000
repeats = st.sampled_from(["0s", "30m", "1d", "never"])


def who(entries: Sequence[SeenEntry]) -> Person:
    found = np.array(sorted(entries, key=lambda entry: entry[1]), seen.ENTRY)
    return EMPTY_PERSON._replace(seen=found)


def after(*actions: tuple[str, int, str]) -> Person:
    """A person after actions, each by name, days ago and item."""
    return who(
        [
            (item_hash(item), NOW_S - days * DAY_S, int(seen.BITS[CODE[name]]))
            for name, days, item in actions
        ]
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*map(item_hash, NAMES), 7]),
            st.sampled_from([NOW_S - ago for ago in (0, 60, 1799, 1800, 86399, 86400, 10**6)]),
            st.sampled_from([1, 2, 4, 8, 16, 32, 34]),
        ),
        max_size=30,
    ),
    st.builds(Repeat, view=repeats, click=repeats, purchase=repeats),
)
def test_blocked_and_waiting_equal_their_slow_definition(
    entries: list[SeenEntry], repeat: Repeat
) -> None:
    person = who(entries)
    case = Case(person, world(SHOP, recipe=Recipe(repeat=repeat)), Ask(now=NOW))
    held = by_item(person.seen.tolist())
    for name in NAMES:
        slot, it = case.world.items.find(name), held.get(item_hash(name))
        texts = [repeat.view] * bool(it and it.bits & 1) + [repeat.click] * bool(it and it.bits & 2)
        texts += [repeat.purchase] * bool(it and it.bits & 4)
        waits = [duration_ms(text) for text in texts]
        assert (slot in case.blocked) == (bool(it and it.hidden) or None in waits)
        last = it.time * 1000 if it else 0
        assert (slot in case.waiting) == any(w is not None and NOW - last < w for w in waits)


def test_an_item_viewed_once_comes_back_after_a_day() -> None:
    shop = world(SHOP[:2])
    fresh, aged = after(("view", 0, "i0")), after(("view", 1, "i0"))
    decision = decide(fresh, shop, Ask(now=NOW, count=1))
    assert ([item.item_id for item in decision.items], decision.relaxed) == (["i1"], ())
    assert not decision.exhausted
    decision = decide(fresh, shop, Ask(now=NOW, count=2), "full")
    assert [item.item_id for item in decision.items] == ["i1", "i0"]
    assert decision.relaxed == ("seen",)
    assert all(item.reason is not None and item.sources for item in decision.items)
    assert decision.exhausted
    assert decision.removed["seen"] == 0
    assert decision.kept == 2
    decision = decide(aged, shop, Ask(now=NOW, count=2))
    assert {item.item_id for item in decision.items} == {"i0", "i1"}
    assert decision.relaxed == ()


def test_what_was_seen_longest_ago_comes_first_and_pages_repeat_nothing() -> None:
    ages = {name: NOW_S - 600 + 60 * n for n, name in enumerate(NAMES)}
    person = who([(item_hash(name), time, seen.VIEW) for name, time in ages.items()])
    shown: list[str] = []
    served, exhausted = b"", False
    while not exhausted:
        decision = decide(person, world(SHOP), Ask(now=NOW, count=4, served=served))
        assert decision.relaxed == ("seen",)
        page = [item.item_id for item in decision.items]
        served = cursor.decode(cursor.encode(served, [(name, "") for name in page]) or "")
        shown, exhausted = shown + page, decision.exhausted
    assert shown == NAMES


@pytest.mark.parametrize(
    ("actions", "shown"),
    [
        ([("hide", 0, "i0")], False),
        ([("dislike", 9, "i0")], False),
        ([("rated_down", 9, "i0")], False),
        ([("purchase", 99, "i0")], False),
        ([("hide", 3, "i0"), ("unhide", 2, "i0")], True),
        ([("unhide", 3, "i0"), ("hide", 2, "i0")], False),
        ([("hide", 3, "i0"), ("like", 2, "i0")], True),
        ([("like", 3, "i0"), ("hide", 2, "i0")], False),
        ([("dislike", 3, "i0"), ("like", 2, "i0")], True),
        ([("hide", 3, "i0"), ("view", 2, "i0")], False),
        ([("hide", 3, "i0"), ("like", 0, "i0")], True),
    ],
)
def test_the_later_of_like_and_hide_wins(actions: list[tuple[str, int, str]], shown: bool) -> None:
    decision = decide(after(*actions), world(SHOP[:1]), Ask(now=NOW))
    assert [item.item_id for item in decision.items] == ["i0"] * shown


def test_a_replay_shows_nothing_twice() -> None:
    shop = replace(world(SHOP[:1]), recipe=BUILT_IN_RECIPES["replay"])
    for action in ("view", "click", "share", "purchase"):
        decision = decide(after((action, 999, "i0")), shop, Ask(now=NOW))
        assert (decision.items, decision.relaxed, decision.removed["blocked"]) == ([], (), 1)


def test_nothing_but_the_rule_of_seen_items_is_relaxed() -> None:
    person = after(("view", 0, "i0"), ("view", 0, "i1"), ("hide", 0, "i2"))
    ask = Ask(now=NOW, exclude=("i1",), item_id="i3")
    decision = decide(person, world([*SHOP[:4], Item(item_id="off", available=False)]), ask)
    assert [item.item_id for item in decision.items] == ["i0"]
    assert decision.relaxed == ("seen",)


@pytest.mark.parametrize("explain", ["reason", "full"])
def test_what_fills_a_slate_says_that_it_was_seen(explain: Literal["reason", "full"]) -> None:
    """What comes back since its time is over has the reason that any item has."""
    ages = {"i0": 2 * DAY_S, "i1": 60, "i2": 30}
    person = who([(item_hash(name), NOW_S - age, seen.VIEW) for name, age in ages.items()])
    decision = decide(person, world(SHOP[:4]), Ask(now=NOW), explain)
    codes = {item.item_id: item.reason.code for item in decision.items if item.reason}
    assert [item.item_id for item in decision.items[2:]] == ["i1", "i2"]
    assert (codes["i1"], codes["i2"]) == ("seen_before", "seen_before")
    assert "seen_before" not in (codes["i0"], codes["i3"])
    silent = decide(person, world(SHOP[:4]), Ask(now=NOW), "none")
    assert [item.reason for item in silent.items] == [None] * 4
