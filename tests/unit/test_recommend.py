"""`decide`: what must hold of every slate, over worlds out of a seed."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.actions import CODE
from schemas.control import Recipe
from schemas.event import Preferences
from schemas.identity import item_hash
from schemas.item import Item
from serving import cursor
from serving.arrange import cap
from serving.case import Ask, World
from serving.explain import ALIKE
from serving.person import NOBODY, Person
from serving.recommend import Decision, decide
from tests.unit.worlds import NOW, catalogue, neighbours, person, popularity, world

quick = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 10_000)


class Setting(NamedTuple):
    """A world, somebody in it and what they want; `items` made it, `acts` are what they did."""

    items: list[Item]
    world: World
    person: Person
    ask: Ask
    acts: list[str]


def setting(seed: int, shuffled: bool = False) -> Setting:
    rng = np.random.default_rng(seed)
    items = catalogue(int(rng.integers(1, 120)), int(rng.integers(1, 8)), seed)
    lists = neighbours(items, int(rng.integers(1, 12)), seed)
    popular = popularity(items, seed) if rng.random() < 0.8 else {}
    for item in items[:: int(rng.integers(3, 9))]:
        item.available = False
    names = [item.item_id for item in items] + ["unknown"]
    acts = [
        (str(rng.choice(names)), int(rng.choice([CODE["view"], CODE["like"], CODE["dislike"]])))
        for _ in range(int(rng.integers(0, 60)))
    ]
    who = person(
        acts,
        categories={item.item_id: item.category for item in items},
        hidden=[str(name) for name in rng.choice(names, 3)],
    )
    ask = Ask(
        now=NOW,
        count=int(rng.integers(1, 25)),
        category=f"c{rng.integers(0, 3)}" if rng.random() < 0.2 else None,
        exclude=tuple(str(name) for name in rng.choice(names, 2)),
    )
    loaded = list(items)
    if shuffled:
        random.Random(seed).shuffle(loaded)
    depth = int(rng.choice([3, 20, 200]))
    recipe = Recipe(
        weights={"covisit": 1.0, "content": 0.3, "popular": 0.1, "category": 0.2}, depth=depth
    )
    return Setting(
        items, world(loaded, lists, popular, recipe), who, ask, [name for name, _ in acts]
    )


def ids(decision: Decision) -> list[str]:
    return [item.item_id for item in decision.items]


@quick
@given(SEEDS)
def test_the_order_of_loading_decides_nothing(seed: int) -> None:
    one, other = setting(seed), setting(seed, shuffled=True)
    assert one.ask == other.ask
    first = decide(one.person, one.world, one.ask, "full")
    second = decide(other.person, other.world, other.ask, "full")
    assert [item._replace(slot=0) for item in first.items] == [
        item._replace(slot=0) for item in second.items
    ]
    assert first[1:] == second[1:]


@quick
@given(SEEDS)
def test_nothing_ineligible_and_nothing_twice(seed: int) -> None:
    s = setting(seed)
    shown = ids(decide(s.person, s.world, s.ask))
    held = {item.item_id: item for item in s.items}
    gone = set(s.person.seen.tolist()) | set(s.person.hidden.tolist())
    assert len(shown) == len(set(shown)) <= s.ask.count
    assert not set(shown) & set(s.ask.exclude)
    for name in shown:
        assert held[name].available
        assert item_hash(name) not in gone
        assert s.ask.category in (None, held[name].category)


@quick
@given(SEEDS)
def test_a_slate_is_full_while_there_is_anything_to_show(seed: int) -> None:
    s = setting(seed)
    gone = set(s.person.seen.tolist()) | set(s.person.hidden.tolist())
    left = [
        item
        for item in s.items
        if item.available
        and item_hash(item.item_id) not in gone
        and item.item_id not in s.ask.exclude
        and s.ask.category in (None, item.category)
    ]
    decision = decide(s.person, s.world, s.ask)
    assert len(decision.items) == min(s.ask.count, len(left))
    assert decision.exhausted or len(left) > s.ask.count


@quick
@given(SEEDS)
def test_the_cap_holds_or_is_reported(seed: int) -> None:
    s = setting(seed)
    decision = decide(s.person, s.world, s.ask)
    head = Counter(item.category for item in decision.items[:10] if item.category)
    most = cap(s.world.recipe.category_cap, s.ask.count)
    assert decision.relaxed or all(n <= most for n in head.values())
    if s.ask.category is not None:
        assert decision.relaxed == ("category_cap",)


@quick
@given(SEEDS)
def test_a_reason_truly_contributed(seed: int) -> None:
    s = setting(seed)
    for item in decide(s.person, s.world, s.ask, "full").items:
        assert item.reason is not None
        effects = {part.feature: part.effect for part in item.contributions}
        codes = {
            "because_you_watched": "covisit",
            "similar_to": "content",
            "your_taste": "content",
            "category": "category",
            "popular": "popular",
        }
        if item.reason.code == "new":
            assert not any(effect > 0 for effect in effects.values())
            continue
        named = codes[item.reason.code]
        assert effects[named] == max(effects.values()) > 0
        assert abs(sum(effects.values()) - item.score) < 1e-5
        assert set(item.reason.item_ids) <= set(s.acts)
        assert bool(item.reason.item_ids) == (
            item.reason.code in ("because_you_watched", "similar_to")
        )
        if item.reason.code == "similar_to":
            (like,) = item.reason.item_ids
            vectors = s.world.items.vectors
            assert vectors[s.world.items.find(like)] @ vectors[item.slot] >= ALIKE
        if named == "covisit":
            (because,) = item.reason.item_ids
            slot = s.world.items.find(because)
            assert item.slot in s.world.tables.neighbours[slot].slots.tolist()


@quick
@given(SEEDS)
def test_pages_repeat_nothing_and_end(seed: int) -> None:
    s = setting(seed)
    shown: list[str] = []
    ask = s.ask
    for _ in range(200):
        decision = decide(s.person, s.world, ask)
        shown += ids(decision)
        after = None if decision.exhausted else cursor.encode(ask.served, ids(decision))
        if after is None:
            break
        ask = Ask(
            now=ask.now,
            count=ask.count,
            category=ask.category,
            exclude=ask.exclude,
            served=cursor.decode(after),
        )
    else:
        raise AssertionError("never exhausted")
    assert len(shown) == len(set(shown))


def test_nobody_gets_the_popular() -> None:
    items = catalogue(50, 4, 1)
    w = world(items, neighbours(items, 5, 1), popularity(items, 1))
    decision = decide(NOBODY, w, Ask(now=NOW))
    assert decision.fallback == "popular"
    assert len(decision.items) == 10
    assert {item.reason.code for item in decision.items if item.reason} == {"popular"}


def test_an_empty_system_answers_with_nothing() -> None:
    decision = decide(NOBODY, world([]), Ask(now=NOW))
    assert decision == Decision([], "popular", (), True)


def test_without_popularity_the_newest_come_first() -> None:
    items = [Item(item_id=f"i{n}", published_at=NOW - n) for n in range(5)]
    decision = decide(NOBODY, world(items), Ask(now=NOW, count=3))
    assert ids(decision) == ["i0", "i1", "i2"]
    assert decision.fallback == "popular"


def test_content_alone_is_a_named_fallback() -> None:
    items = [Item(item_id=f"i{n}", title="red river" if n < 3 else "love") for n in range(6)]
    decision = decide(person([("i0", CODE["like"])]), world(items), Ask(now=NOW, count=2))
    assert decision.fallback == "content"
    assert set(ids(decision)) == {"i1", "i2"}
    assert [item.reason.text for item in decision.items if item.reason] == [
        "Similar to red river"
    ] * 2


def test_who_asked_not_to_be_known_gets_the_popular() -> None:
    items = catalogue(50, 4, 1)
    w = world(items, neighbours(items, 5, 1), popularity(items, 1))
    acts = [("i1", CODE["like"]), ("i2", CODE["like"])]
    off = Preferences(event_id="e", person="p", received_at=NOW, personalized=False)  # type: ignore[arg-type]
    stranger = ids(decide(person([], seen=["i1", "i2"]), w, Ask(now=NOW)))
    assert ids(decide(person(acts, preferences=off), w, Ask(now=NOW))) == stranger
    assert ids(decide(person(acts), w, Ask(now=NOW, personalized=False))) == stranger
    assert ids(decide(person(acts), w, Ask(now=NOW))) != stranger


def test_one_more_action_changes_the_answer_and_names_it() -> None:
    items = catalogue(200, 8, 3)
    w = world(items, neighbours(items, 20, 3), popularity(items, 3))
    acts = [("i1", CODE["view"]), ("i2", CODE["view"])]
    before = decide(person(acts), w, Ask(now=NOW))
    after = decide(person([*acts, ("i3", CODE["purchase"])]), w, Ask(now=NOW))
    assert ids(before) != ids(after)
    assert any(item.reason and item.reason.item_ids == ("i3",) for item in after.items)
