"""Groups: a slate shows one variant of each, the most wanted that may be shown, for the values of all."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.actions import CODE
from schemas.control import Exploration, Recipe, Repeat
from schemas.identity import group_hash, item_hash
from schemas.items import Item
from schemas.state.tables import NEIGHBOUR, WINDOWS
from serving.decide.case import Ask, Case, World
from serving.decide.decide import decide
from serving.decide.groups import MAX_VARIANTS
from serving.decide.person import EMPTY_PERSON, Person
from serving.decide.results import Decision
from serving.decide.sources import retrieve
from serving.read import cursor
from serving.read.lists import SIMILAR
from serving.world.catalogue import ItemTable
from serving.world.placements import POPULAR_LIST
from tests.support.worlds import (
    NOW,
    arms,
    catalogue,
    neighbours,
    person,
    popularity,
    release,
    released,
    world,
)

SEEDS = st.integers(0, 10_000)
LAST_WINDOW = -1
quick = settings(max_examples=20, deadline=None)


class Shop(NamedTuple):
    """A world of `items`, about two in three of them in groups of a few, and a request."""

    items: list[Item]
    wanted: dict[str, float]
    """Popularity with the longest half-life."""
    world: World
    person: Person
    ask: Ask


def shop(seed: int, shuffled: bool = False, epsilon: float | None = None) -> Shop:
    rng = np.random.default_rng(seed)
    items = catalogue(int(rng.integers(1, 120)), 5, seed)
    for item in items:
        if rng.random() < 0.7:
            item.group_id = f"g{rng.integers(0, 1 + len(items) // 4)}"
        item.available = bool(rng.random() < 0.7)
    names = [item.item_id for item in items]
    acts = [(str(rng.choice(names)), CODE["view"]) for _ in range(int(rng.integers(0, 9)))]
    viewed = [name for name, _ in acts]
    bought = [f"\0group\0g{n}" for n in rng.integers(0, 30, 2)]
    who = person(acts, seen=viewed, bought=bought)
    drawn = float(rng.choice([0.0, 0.5])) if epsilon is None else epsilon
    recipe = Recipe(
        weights={"covisit": 1.0, "content": 0.3, "popular": 0.1, "vector": 0.2},
        depth=int(rng.choice([3, 20, 200])),
        fresh_days=float(rng.choice([0.0, 30.0])),
        exploration=Exploration(epsilon=drawn),
        repeat=Repeat(view="never"),
    )
    popular = popularity(items, seed) if rng.random() < 0.8 else {}
    loaded = list(items)
    if shuffled:
        random.Random(seed).shuffle(loaded)
    made = world(loaded, neighbours(items, int(rng.integers(1, 12)), seed), popular, recipe)
    arms(made, "home", {name: int(rng.integers(0, 3)) for name in names})
    if rng.random() < 0.4:
        made = released(made, release(items, seed))
    ask = Ask(
        now=NOW,
        count=int(rng.integers(1, 25)),
        category="c1" if rng.random() < 0.2 else None,
        exclude=(str(rng.choice(names)),),
        item_id=str(rng.choice(names)) if rng.random() < 0.3 else None,
        seed=seed,
        placement="home",
        groups=("g3",) if rng.random() < 0.3 else (),
    )
    wanted = {
        name: float(np.frombuffer(popular[item_hash(name)])[LAST_WINDOW]) if popular else 0.0
        for name in names
    }
    return Shop(items, wanted, made, who, ask)


def eligible_items(s: Shop) -> list[Item]:
    gone = {*s.person.seen["item"].tolist()}
    groups = {item.group_id for item in s.items if item.item_id == s.ask.item_id} | {*s.ask.groups}
    return [
        item
        for item in s.items
        if item.available
        and item_hash(item.item_id) not in gone
        and item.item_id not in (*s.ask.exclude, s.ask.item_id)
        and s.ask.category in (None, item.category)
        and not (item.group_id and (group_hash(item.group_id) in gone or item.group_id in groups))
    ]


def things(s: Shop) -> set[str]:
    """The definition: of each group the eligible variant with the highest popularity, then the least hash."""
    found: dict[str, Item] = {}
    for item in eligible_items(s):
        key = item.group_id or f"\0{item.item_id}"
        best = found.get(key)
        order = (-s.wanted[item.item_id], item_hash(item.item_id))
        if best is None or order < (-s.wanted[best.item_id], item_hash(best.item_id)):
            found[key] = item
    return {item.item_id for item in found.values()}


def ids(decision: Decision) -> list[str]:
    return [item.item_id for item in decision.items]


@quick
@given(SEEDS)
def test_a_slate_shows_of_each_group_the_most_wanted_that_may_be_shown(seed: int) -> None:
    s = shop(seed)
    able = things(s)
    decision = decide(s.person, s.world, s.ask)
    assert set(ids(decision)) <= able
    assert len(decision.items) == min(s.ask.count, len(able))
    assert decision.exhausted or len(able) > s.ask.count


@quick
@given(SEEDS)
def test_what_comes_again_is_of_no_group_that_is_shown(seed: int) -> None:
    s = shop(seed)
    unseen = things(s)
    recipe = msgspec.structs.replace(s.world.recipe, repeat=Repeat())
    decision = decide(s.person, replace(s.world, recipe=recipe), s.ask)
    shown, groups = ids(decision), [item.group for item in decision.items if item.group]
    assert len(groups) == len(set(groups))
    assert set(shown[: len(unseen)]) <= unseen
    assert not set(shown[len(unseen) :]) & unseen
    assert ("seen" in decision.relaxed) == (len(shown) > len(unseen))


@quick
@given(SEEDS)
def test_the_order_of_loading_decides_nothing(seed: int) -> None:
    one, other = shop(seed), shop(seed, shuffled=True)
    first = decide(one.person, one.world, one.ask, "full")
    second = decide(other.person, other.world, other.ask, "full")
    assert [item._replace(slot=0) for item in first.items] == [
        item._replace(slot=0) for item in second.items
    ]
    assert first[1:] == second[1:]


@quick
@given(SEEDS)
def test_pages_show_one_variant_of_a_group_between_them(seed: int) -> None:
    s = shop(seed)
    able, shown, ask = things(s), [], s.ask
    while True:
        decision = decide(s.person, s.world, ask)
        shown += decision.items
        after = cursor.encode(ask.served, [(it.item_id, it.group) for it in decision.items])
        assert after is not None
        if decision.exhausted:
            break
        ask = replace(ask, served=cursor.decode(after))
    assert {item.item_id for item in shown} == able
    assert len(shown) == len(able)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_what_is_drawn_is_drawn_from_one_variant_of_each_group(seed: int) -> None:
    s = shop(seed, epsilon=0.9)
    last: dict[str, float] = {}
    for draw in range(150):
        item = decide(s.person, s.world, replace(s.ask, count=2, seed=draw)).items[-1:]
        for drawn in item:
            assert last.setdefault(drawn.item_id, drawn.probability) == drawn.probability
    groups = {item.item_id: item.group_id for item in s.items}
    drawn_groups = [groups[name] for name in last if groups[name]]
    assert len(drawn_groups) == len(set(drawn_groups))
    if last and len(last) < 15:  # all that can be drawn was
        assert abs(sum(last.values()) - 1) < 1e-9


def test_the_variants_of_a_group_take_one_place_of_the_least_served() -> None:
    items = [Item(item_id=f"s{n}", group_id="shirt", title="the") for n in range(300)]
    items += [Item(item_id=f"i{n}", title="the") for n in range(300)]
    recipe = Recipe(weights={"popular": 1.0}, exploration=Exploration(1.0), depth=3)
    w = world(items, {}, {item_hash("s0"): row(9)}, recipe)
    arms(w, "home", {f"i{n}": 1 + (n != 7) for n in range(300)})
    first, last = decide(EMPTY_PERSON, w, Ask(now=NOW, count=2, placement="home")).items
    assert (first.item_id, last.item_id) == ("s0", "i7")
    assert (last.explore, last.swapped, last.probability) == (True, True, 1.0)


def test_the_explanation_names_what_is_not_shown_and_what_was_swapped() -> None:
    items = [Item(item_id=name, group_id="shirt") for name in ("red", "blue", "green")]
    items += [Item(item_id="mug"), Item(item_id="hat")]
    near = {item_hash("hat"): listed({"red": 0.2, "green": 0.3, "mug": 0.4})}
    often = {item_hash(name): row(n) for name, n in (("blue", 9), ("red", 2), ("mug", 5))}
    w = world(items, near, often, Recipe(weights={"covisit": 1.0}, depth=1))
    decision = decide(person([("hat", CODE["view"])]), w, Ask(now=NOW, count=1), "full")
    (shirt,) = decision.items
    # brought by its variants alone: their scores add up, and it is before the mug
    assert (shirt.item_id, shirt.group, shirt.swapped) == ("blue", "shirt", False)
    assert shirt.score == np.float32(0.5)
    assert set(shirt.variants) == {"red", "green"}
    assert shirt.sources == ("covisit", "popular")
    assert decision.removed["variant"] == 2
    # the mug is the most popular that is left
    hides = person([("hat", CODE["view"])], hidden=["blue"])
    without = decide(hides, w, Ask(now=NOW, count=1), "full")
    assert (ids(without), without.items[0].variants) == (["red"], ("green",))


def test_a_variant_that_no_source_brought_is_a_swap() -> None:
    items = [Item(item_id=name, group_id="shirt") for name in ("red", "blue")]
    items += [Item(item_id="hat"), Item(item_id="mug")]
    near = {item_hash("hat"): listed({"red": 0.2})}
    often = {item_hash("blue"): row(1), item_hash("mug"): row(5)}
    recipe = Recipe(weights={"covisit": 1.0}, depth=1)
    acts = person([("hat", CODE["view"])])
    (shirt,) = decide(acts, world(items, near, often, recipe), Ask(now=NOW, count=1)).items
    assert (shirt.item_id, shirt.swapped, shirt.sources) == ("blue", True, ("covisit",))
    # retrieved to the end of the catalogue, since both are shown
    both = decide(acts, world(items, near, often, recipe), Ask(now=NOW, count=2))
    assert [(item.item_id, item.swapped) for item in both.items] == [
        ("blue", False),
        ("mug", False),
    ]
    assert not both.exhausted  # the hat may come again
    every = decide(acts, world(items, near, often, recipe), Ask(now=NOW, count=3))
    assert (ids(every), every.relaxed) == (["blue", "mug", "hat"], ("seen",))


def test_without_groups_nothing_is_added_and_nothing_merged() -> None:
    items = catalogue(60, 5, 1)
    w = world(items, neighbours(items, 5, 1), popularity(items, 1))
    case = Case(person([("i1", CODE["view"])]), w, Ask(now=NOW))
    pool = retrieve(case, 20)
    brought = np.concatenate([each.slots for each in pool.retrieved.values()])
    assert set(pool.slots.tolist()) == set(brought.tolist())
    assert pool.chosen is None
    assert "variant" not in decide(case.person, w, case.ask).removed


def test_popular_and_similar_lists_show_one_variant_of_a_group() -> None:
    items = [
        Item(item_id=f"{thing}{n}", group_id=thing, title=thing, category="c")
        for thing in ("shirt", "mug")
        for n in range(5)
    ]
    items += [Item(item_id="hat", title="hat", category="c")]
    often = {item_hash(f"shirt{n}"): row(n) for n in range(5)} | {item_hash("mug3"): row(7)}
    popular = world(items, {}, often, POPULAR_LIST.recipe)
    # ten of the shirt's variants together against seven of the mug
    assert ids(decide(EMPTY_PERSON, popular, Ask(now=NOW))) == ["shirt4", "mug3", "hat"]
    alike = world(items, {}, often, SIMILAR.recipe)
    found = ids(decide(EMPTY_PERSON, alike, Ask(now=NOW, item_id="shirt2")))
    assert sorted(found) == ["hat", "mug3"]


def test_a_group_of_ten_thousand_takes_little_room_and_hides_nothing() -> None:
    rng = np.random.default_rng(1)
    items = [Item(item_id=f"s{n}", group_id="shirt", title="red shirt") for n in range(10_000)]
    items += [Item(item_id=f"i{n}", title=f"red thing {n}") for n in range(30)]
    often = {item_hash(f"s{n}"): row(float(rng.integers(1, 500))) for n in range(10_000)}
    w = world(items, {}, often)
    who = person([("i1", CODE["like"])])
    case = Case(who, w, Ask(now=NOW))
    assert len(retrieve(case, 20).slots) <= 20 + 30 + MAX_VARIANTS
    assert len(w.index) == 31
    best = min(often, key=lambda value: (-np.frombuffer(often[value])[LAST_WINDOW], value))
    shown = decide(who, w, Ask(now=NOW, count=31)).items
    assert {item.item_id for item in shown if item.group} == {w.items.ids[w.items.slot(best)]}
    assert len(shown) == 31  # the item that they liked comes last
    # nor where none of it can be shown
    bought = person([], seen=[], bought=["\0group\0shirt"])
    assert len(decide(bought, w, Ask(now=NOW, count=31)).items) == 30


changes = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["put", "put", "drop"]), st.integers(0, 3)),
    max_size=40,
)


@given(changes)
def test_the_table_knows_the_variants_of_each_group(acts: list[tuple[int, str, int]]) -> None:
    table, held = ItemTable(4), dict[str, str]()
    for n, what, number in acts:
        name = f"i{n}"
        if what == "put":
            held[name] = f"g{number}" if number else ""
            table.put(Item(item_id=name, group_id=held[name]))
        else:
            held.pop(name, None)
            table.drop(name)
    assert bool(table.groups) == any(held.values())
    leaders = {name for name, group in held.items() if not group}
    for group in {*held.values()} - {""}:
        members = sorted((name for name in held if held[name] == group), key=item_hash)
        assert table.groups.sizes[table.groups.find(group)] == len(members)
        named = np.array([7, group_hash(group), item_hash(members[0])], np.uint64)
        slots, indices = table.locate_variants(named)
        assert [table.ids[slot] for slot in slots.tolist()] == [*members, members[0]]
        assert indices.tolist() == [1] * len(members) + [2]
        assert table.lookup(members[0]) == (True, "", group)
        leaders.add(members[0])
    assert {table.ids[slot] for slot in np.flatnonzero(table.leads).tolist()} == leaders


def test_the_index_holds_one_of_a_group_as_items_come_and_go() -> None:
    w = world([Item(item_id="a", group_id="g", title="one"), Item(item_id="hat", title="one")])
    names = sorted((f"b{n}" for n in range(5)), key=item_hash)

    def indexed() -> set[str]:
        w.index.refresh()
        found = w.index.search(w.items.vectors[w.items.find("hat")], 10)
        return {w.items.ids[slot] for slot in found.slots.tolist()}

    assert indexed() == {"a", "hat"}
    for name in names:
        w.items.put(Item(item_id=name, group_id="g", title="one"))
    members = sorted([*names, "a"], key=item_hash)
    while members:
        assert indexed() == {members[0], "hat"}
        w.items.drop(members.pop(0))
    assert indexed() == {"hat"}


def listed(scores: dict[str, float]) -> bytes:
    return np.array([(item_hash(i), s, s, 0) for i, s in scores.items()], NEIGHBOUR).tobytes()


def row(n: float) -> bytes:
    return np.full(len(WINDOWS), float(n)).tobytes()
