"""`decide`: the laws of every slate, over worlds from a seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.reference.seen import PURCHASE, by_item
from models.release import interest
from models.release import person as vectors
from models.release.content import GRID
from schemas.actions import CODE
from schemas.control import Exploration, Fatigue, Filter, Recipe
from schemas.events import Preferences
from schemas.identity import item_hash
from schemas.items import Item
from schemas.state.tables import NEIGHBOUR, WINDOWS
from schemas.state.vectors import Vector
from serving.decide.arrange import HEAD_SLOTS, cap
from serving.decide.case import Ask, Case, World
from serving.decide.decide import decide
from serving.decide.explain import REASONS
from serving.decide.person import EMPTY_PERSON, Person
from serving.decide.pool import MAX_SCORED, Pool, Retrieved
from serving.decide.rank import feature_rows
from serving.decide.results import MIN_SIMILAR_COSINE, TASTE, Decision
from serving.decide.sources import retrieve, shortlist
from serving.read import cursor
from tests.support.worlds import (
    DAY_MS,
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

quick = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 10_000)


class Setting(NamedTuple):
    """A world of `items`, a person with `acts`, and their request. About half
    of the worlds have a release, most of these a ranker; about half draw their last slot."""

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
    shown = {str(name): int(rng.integers(1, 4)) for name in rng.choice(names, 6)}
    who = who._replace(impressions=person([], shown=shown).impressions)
    wanted = Filter(
        categories=("c0", "c1", "c2") if rng.random() < 0.5 else (),
        types=("film",) if rng.random() < 0.5 else (),
        published_within_days=50.0 if rng.random() < 0.3 else None,
    )
    ask = Ask(
        now=NOW,
        count=int(rng.integers(1, 25)),
        category=f"c{rng.integers(0, 3)}" if rng.random() < 0.2 else None,
        exclude=tuple(str(name) for name in rng.choice(names, 2)),
        item_id=str(rng.choice(names)) if rng.random() < 0.2 else None,
        seed=int(rng.integers(2**63)),
        filter=wanted if rng.random() < 0.2 else None,
        placement="home",
    )
    loaded = list(items)
    if shuffled:
        random.Random(seed).shuffle(loaded)
    recipe = Recipe(
        weights={"covisit": 1.0, "content": 0.3, "popular": 0.1, "category": 0.2, "vector": 0.2},
        depth=int(rng.choice([3, 20, 200])),
        fresh_days=float(rng.choice([0.0, 30.0])),
        fatigue=Fatigue(factor=float(rng.choice([1.0, 0.5]))),
        exploration=Exploration(epsilon=float(rng.choice([0.0, 0.0, 0.5, 1.0]))),
    )
    made = world(loaded, lists, popular, recipe)
    arms(made, "home", {item.item_id: int(rng.integers(0, 3)) for item in items})
    if rng.random() < 0.6:
        made = released(made, release(items, seed, ranker=bool(rng.random() < 0.8)))
    return Setting(items, made, who, ask, [name for name, _ in acts])


def fits(ask: Ask, item: Item) -> bool:
    """Whether an item matches the filters of a request."""
    wanted, published = ask.filter or Filter(), item.published_at
    days = wanted.published_within_days
    return (
        ask.category in (None, item.category)
        and (not wanted.categories or item.category in wanted.categories)
        and (not wanted.types or item.type in wanted.types)
        and (days is None or (published is not None and published > NOW - days * DAY_MS))
    )


def met(who: Person) -> tuple[set[int], dict[int, int]]:
    """The items that do not come back, and the time of those that do: all were seen within a day."""
    items = by_item(who.seen.tolist())
    gone = {item for item, it in items.items() if it.hidden or it.bits & PURCHASE}
    return gone, {item: it.time for item, it in items.items() if it.bits and item not in gone}


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
def test_a_slate_holds_nothing_ineligible_and_nothing_twice(seed: int) -> None:
    s = setting(seed)
    decision = decide(s.person, s.world, s.ask)
    shown = ids(decision)
    held = {item.item_id: item for item in s.items}
    gone, waiting = met(s.person)
    assert len(shown) == len(set(shown)) <= s.ask.count
    assert not set(shown) & {*s.ask.exclude, s.ask.item_id}
    for name in shown:
        assert held[name].available
        assert item_hash(name) not in gone
        assert item_hash(name) not in waiting or "seen" in decision.relaxed
        assert fits(s.ask, held[name])


@quick
@given(SEEDS)
def test_a_slate_is_full_while_there_is_anything_to_show(seed: int) -> None:
    s = setting(seed)
    gone, waiting = met(s.person)
    eligible = [
        item
        for item in s.items
        if item.available
        and item_hash(item.item_id) not in gone
        and item.item_id not in (*s.ask.exclude, s.ask.item_id)
        and fits(s.ask, item)
    ]
    decision = decide(s.person, s.world, s.ask)
    unseen = [item.item_id for item in eligible if item_hash(item.item_id) not in waiting]
    shown = ids(decision)
    assert len(shown) == min(s.ask.count, len(eligible))
    assert decision.exhausted or len(eligible) > s.ask.count
    assert ("seen" in decision.relaxed) == (len(unseen) < len(shown))
    # all that is unseen comes first, then what was seen longest ago
    assert set(unseen) == set(shown[: len(unseen)]) or len(unseen) >= len(shown)
    again = [waiting[item_hash(name)] for name in shown[len(unseen) :]]
    assert again == sorted(waiting[item_hash(it.item_id)] for it in eligible
                           if it.item_id not in unseen)[: len(again)]  # fmt: skip


@quick
@given(SEEDS)
def test_the_caps_hold_or_are_reported(seed: int) -> None:
    s = setting(seed)
    decision = decide(s.person, s.world, s.ask)
    owners = {item.item_id: item.owner_id for item in s.items}
    head = decision.items[:HEAD_SLOTS]
    for rule, kinds, share in (
        ("category_cap", [i.category for i in head], s.world.recipe.category_cap),
        ("owner_cap", [owners[i.item_id] for i in head], s.world.recipe.owner_cap),
    ):
        most = cap(share, s.ask.count)
        broken = any(n > most for kind, n in Counter(kinds).items() if kind)
        lifted = rule == "category_cap" and s.ask.category is not None
        assert (rule in decision.relaxed) == (broken or lifted)


@quick
@given(SEEDS)
def test_a_fresh_item_is_shown_wherever_one_may_be(seed: int) -> None:
    s = setting(seed)
    if not s.world.recipe.fresh_days:
        return
    since = NOW - s.world.recipe.fresh_days * DAY_MS
    young = {i.item_id for i in s.items if i.published_at is not None and i.published_at > since}
    gone, waiting = met(s.person)
    able = [
        item
        for item in s.items
        if item.item_id in young
        and item.available
        and item_hash(item.item_id) not in gone
        and item_hash(item.item_id) not in waiting
        and item.item_id not in (*s.ask.exclude, s.ask.item_id)
        and fits(s.ask, item)
    ]
    decision = decide(s.person, s.world, s.ask)
    assert not able or "fresh" in decision.relaxed or young & set(ids(decision))
    assert able or "fresh" not in decision.relaxed


@quick
@given(SEEDS)
def test_a_reason_truly_contributed(seed: int) -> None:
    s = setting(seed)
    for item in decide(s.person, s.world, s.ask, "full").items:
        assert item.reason is not None
        if item.explore:
            assert item.reason.code == "explore"
            continue
        if item.reason.code == "seen_before":
            assert item_hash(item.item_id) in set(s.person.seen["item"].tolist())
            continue
        effects = {contribution.feature: contribution.effect for contribution in item.contributions}
        tired, said = effects.pop("fatigue", 0.0), effects.pop("ranker", None)
        reasons = {name: effect for name, effect in effects.items() if REASONS[name]}
        if said is not None:
            assert abs(said + tired - item.score) < 1e-5
        elif not item.features:
            assert abs(sum(effects.values()) + tired - item.score) < 1e-5
        if item.reason.code in ("new", "catalogue"):
            assert not any(effect > 0 for effect in reasons.values())
            continue
        named = max(reasons, key=lambda name: reasons[name])
        assert reasons[named] > 0
        codes = {
            "covisit": {"because_you_watched", "similar_to"},
            "content": {"similar_to", "your_taste"},
            "vector": {"similar_to", "your_taste"},
            "category": {"category"},
            "popular": {"popular"},
        }
        assert item.reason.code in codes[REASONS[named]]
        assert set(item.reason.item_ids) <= {*s.acts, s.ask.item_id}
        assert bool(item.reason.item_ids) == (
            item.reason.code in ("because_you_watched", "similar_to")
        )
        if REASONS[named] == "covisit":
            (because,) = item.reason.item_ids
            slot = s.world.items.find(because)
            assert item.slot in s.world.tables.neighbours.get(slot).slots.tolist()
        elif item.reason.code == "similar_to":
            (like,) = item.reason.item_ids
            space = s.world.space if named == "vector" else None
            found = space.vectors if space else s.world.items.vectors
            assert found[s.world.items.find(like)] @ found[item.slot] >= MIN_SIMILAR_COSINE


@quick
@given(SEEDS)
def test_pages_repeat_nothing_and_end(seed: int) -> None:
    s = setting(seed)
    shown: list[str] = []
    ask = s.ask
    for _ in range(200):
        decision = decide(s.person, s.world, ask)
        shown += ids(decision)
        after = (
            None
            if decision.exhausted
            else cursor.encode(ask.served, [(item.item_id, item.group) for item in decision.items])
        )
        if after is None:
            break
        ask = Ask(
            now=ask.now,
            count=ask.count,
            category=ask.category,
            exclude=ask.exclude,
            item_id=ask.item_id,
            filter=ask.filter,
            placement=ask.placement,
            seed=ask.seed,
            served=cursor.decode(after),
        )
    else:
        raise AssertionError("never exhausted")
    assert len(shown) == len(set(shown))


def test_without_a_person_the_popular_come() -> None:
    items = catalogue(50, 4, 1)
    w = world(items, neighbours(items, 5, 1), popularity(items, 1))
    decision = decide(EMPTY_PERSON, w, Ask(now=NOW))
    assert decision.fallback == "popular"
    assert len(decision.items) == 10
    assert {item.reason.code for item in decision.items if item.reason} == {"popular"}


def test_an_empty_system_answers_with_nothing() -> None:
    decision = decide(EMPTY_PERSON, world([]), Ask(now=NOW))
    assert decision[:4] == ([], "popular", (), True)
    assert decision.sources == {"covisit": 0, "content": 0, "popular": 0}
    assert not any(decision.removed.values())


def test_without_popularity_the_newest_come_first() -> None:
    items = [Item(item_id=f"i{n}", published_at=NOW - n) for n in range(5)]
    decision = decide(EMPTY_PERSON, world(items), Ask(now=NOW, count=3))
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


def test_a_person_who_opted_out_gets_the_popular() -> None:
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


# --- a release ---


@quick
@given(SEEDS)
def test_what_is_logged_of_an_item_is_its_row(seed: int) -> None:
    """The row that training would make of the same person, item and time."""
    s = setting(seed)
    decision, made = decide(s.person, s.world, s.ask), s.world.release
    case = Case(s.person, s.world, s.ask)
    for item in decision.items:
        if made is None or made.rank is None or not len(case.interest.slots):
            assert item.features == ()
            continue
        # for any depth, and any other candidates
        for depth in (s.world.recipe.depth, 10_000):
            pool = retrieve(case, depth)
            if item.slot in pool.slots:
                (number,) = np.flatnonzero(pool.slots == item.slot)
                row = feature_rows(case, pool, np.array([number]), made.features)[0]
                assert item.features == tuple(row.tolist())


@quick
@given(SEEDS)
def test_the_ranker_decides_among_the_best(seed: int) -> None:
    s = setting(seed)
    made = s.world.release
    if made is None or made.rank is None or s.ask.count > 12:
        return
    recipe = Recipe(weights=s.world.recipe.weights, category_cap=1.0, owner_cap=1.0)
    free = replace(s.world, recipe=recipe)
    decision = decide(s.person, free, s.ask, "full")
    # what comes again follows the others, by when it was seen
    again = met(s.person)[1]
    unseen = [item for item in decision.items if item_hash(item.item_id) not in again]
    said = [
        contribution.value
        for item in unseen
        for contribution in item.contributions
        if contribution.feature == "ranker"
    ]
    scores = [item.score for item in unseen]
    assert scores == sorted(scores, reverse=True)
    if not any(
        contribution.feature == "fatigue"
        for i in decision.items
        for contribution in i.contributions
    ):
        # what the ranker says differently may be one score in float32
        assert all(
            a >= b or x == y
            for (a, b), (x, y) in zip(pairwise(said), pairwise(scores), strict=False)
        )
    if said:
        assert all(0 < score < 1 for score in scores)


@quick
@given(SEEDS)
def test_a_stored_vector_is_what_it_would_be_made_to(seed: int) -> None:
    """With the stored vector, without it, or with one of another release: the same answer."""
    s = setting(seed)
    made = s.world.release
    if made is None:
        return
    vector, complete = vectors.person_vector(interest.items(s.person.row), made.space)
    grid = np.rint(vector * GRID).astype("<i2").tobytes()
    wrong = np.arange(64, dtype="<i2").tobytes()
    for stored in (Vector(made.id, complete, grid), Vector("other", True, wrong)):
        with_vector = s.person._replace(vector=stored)
        assert decide(with_vector, s.world, s.ask) == decide(s.person, s.world, s.ask)


def test_only_the_space_finds_items_without_actions() -> None:
    items = catalogue(300, 5, 4)
    w = released(world(items), release(items, 4, share=0.5, coarse={"vector": 1.0}))
    decision = decide(person([("i1", CODE["like"])]), w, Ask(now=NOW))
    assert decision.fallback is None
    assert 90 <= decision.sources["vector"] <= 100
    assert w.release is not None
    space = w.release.space
    assert any(not space.find(hashed([item.item_id]))[0] >= 0 for item in decision.items)
    assert {item.reason.code for item in decision.items if item.reason} <= {
        "similar_to",
        "your_taste",
    }


def hashed(names: list[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.array([item_hash(name) for name in names], np.uint64)


def test_items_that_the_ranker_calls_equal_stay_in_their_order() -> None:
    items = catalogue(300, 5, 4)
    lists, popular = neighbours(items, 60, 4), popularity(items, 4)
    recipe = Recipe(category_cap=1.0, owner_cap=1.0)
    odd = replace(release(items, 4), rank=lambda rows: np.arange(len(rows), dtype=np.float32) % 2)
    who, ask = person([(f"i{n}", CODE["like"]) for n in range(5)]), Ask(now=NOW, count=100)
    equal, plain = (
        ids(decide(who, released(world(items, lists, popular, recipe), made), ask))
        for made in (odd, replace(odd, rank=None))
    )
    assert equal == plain[1::2] + plain[::2]


def test_an_item_from_outside_the_ranked_has_its_row_too() -> None:
    items = catalogue(600, 5, 4)
    lists, popular = neighbours(items, 60, 4), popularity(items, 4)
    recipe = Recipe(exploration=Exploration(1.0))
    model = release(items, 4)
    w = released(world(items, lists, popular, recipe), model)
    who = person([(f"i{n}", CODE["like"]) for n in range(5)])
    outside = 0
    for seed in range(20):
        ask = Ask(now=NOW, seed=seed)
        last = decide(who, w, ask, "full").items[-1]
        case = Case(who, w, ask)
        pool = retrieve(case, w.recipe.depth)
        at = np.flatnonzero(pool.slots == last.slot)
        assert last.features == tuple(feature_rows(case, pool, at, model.features)[0].tolist())
        outside += not any(contribution.feature == "ranker" for contribution in last.contributions)
    assert outside > 5


def test_a_ranker_with_invalid_scores_is_ignored() -> None:
    items = catalogue(50, 4, 1)
    lists = neighbours(items, 5, 1)
    made = release(items, 1)
    broken = replace(made, rank=lambda rows: np.full(len(rows), np.nan, np.float32))
    acts = person([("i1", CODE["like"])])
    heard, plain = (
        decide(acts, released(world(items, lists), it), Ask(now=NOW))
        for it in (broken, replace(made, rank=None))
    )
    assert heard.fallback == "no_model"
    assert ids(heard) == ids(plain)


def test_a_person_without_history_is_not_ranked() -> None:
    items = catalogue(50, 4, 1)
    plain = world(items, popular=popularity(items, 1))
    ranked = decide(EMPTY_PERSON, released(plain, release(items, 1)), Ask(now=NOW))
    assert ids(ranked) == ids(decide(EMPTY_PERSON, plain, Ask(now=NOW)))


# --- candidates ---


def test_at_most_so_many_are_scored_and_each_source_keeps_its_best() -> None:
    items = catalogue(4000, 9, 2)
    w = world(items, neighbours(items, 150, 2), popularity(items, 2), Recipe(depth=400))
    case = Case(person([(f"i{n}", CODE["view"]) for n in range(20)]), w, Ask(now=NOW))
    pool = retrieve(case, 400)
    every = np.arange(len(pool.slots))
    kept = shortlist(pool, every)
    assert len(every) > len(kept) == MAX_SCORED
    for source, n in (("covisit", 500), ("content", 100), ("popular", 300)):
        assert set(pool.order(source)[:n].tolist()) <= set(kept.tolist())
    sums = pool.sums("covisit")[pool.order("covisit")]
    assert (np.diff(sums) <= 0).all()
    decision = decide(case.person, w, case.ask)
    assert decision.removed["beyond"] == sum(1 for _ in every) - MAX_SCORED - sum(
        decision.removed[name] for name in ("unavailable", "blocked", "seen")
    )


def test_the_best_places_of_every_source_by_hand_agree() -> None:
    counts = np.zeros(4, np.intp)
    one = Retrieved(np.array([3, 0, 1, 2], np.int32), np.zeros(4), counts)
    other = Retrieved(np.array([3, 4, 5], np.int32), np.array([0.1, 0.2, 0.3]), counts[:3])
    slots, numbers = (
        np.arange(6, dtype=np.int32),
        {name: drawn.slots.astype(np.intp) for name, drawn in (("one", one), ("other", other))},
    )
    pool = Pool(slots, {"one": one, "other": other}, numbers)
    assert pool.order("one").tolist() == [3, 0, 1, 2]
    assert pool.order("other").tolist() == [5, 4, 3]
    # 3 and 5 come first to one of them, 0 is the second of the first
    assert shortlist(pool, np.arange(6), 3).tolist() == [0, 3, 5]
    assert shortlist(pool, np.array([0, 1, 2, 4, 5]), 3).tolist() == [0, 1, 5]


def test_a_list_is_not_exhausted_because_no_more_are_scored() -> None:
    w = world([Item(item_id=f"i{n}") for n in range(MAX_SCORED + 1)], recipe=Recipe(depth=2000))
    decision = decide(EMPTY_PERSON, w, Ask(now=NOW, count=MAX_SCORED))
    assert len(decision.items) == MAX_SCORED
    assert not decision.exhausted
    assert decision.removed["beyond"] == 1


def test_a_fresh_item_is_looked_for_below_those_already_seen() -> None:
    items = [Item(item_id=f"i{n}", title="the", published_at=NOW - n) for n in range(60)]
    items += [Item(item_id=f"old{n}") for n in range(60)]
    often = {item_hash(f"old{n}"): np.full(len(WINDOWS), 9.0).tobytes() for n in range(60)}
    w = world(items, popular=often, recipe=Recipe(depth=20, fresh_days=1.0))
    decision = decide(person([], seen=[f"i{n}" for n in range(50)]), w, Ask(now=NOW, count=5))
    assert ids(decision)[-1] in {f"i{n}" for n in range(50, 60)}
    assert all(name.startswith("old") for name in ids(decision)[:-1])
    assert decision.relaxed == ()


def test_what_is_the_same_for_all_is_no_reason() -> None:
    items = catalogue(50, 4, 1)
    recipe = Recipe(weights={"history": 1.0, "idle": 1.0, "popular": 0.01})
    w = world(items, popular=popularity(items, 1), recipe=recipe)
    decision = decide(person([("i1", CODE["like"])]), w, Ask(now=NOW, count=5))
    assert {item.reason.code for item in decision.items if item.reason} == {"popular"}


def test_a_decision_counts_its_sources_and_rules() -> None:
    items = catalogue(40, 3, 5)
    items[0].available = False
    w = world(items, popular=popularity(items, 5))
    decision = decide(person([], seen=["i1", "i2"]), w, Ask(now=NOW, exclude=("i3",), count=5))
    assert decision.sources == {"covisit": 0, "content": 0, "popular": 40}
    assert decision.removed["unavailable"] == 1
    assert decision.removed["blocked"] == 1
    assert decision.removed["seen"] == 2
    assert decision.kept == 36
    assert decision.removed["beyond"] == 0
    assert {"category_cap", "owner_cap"} <= set(decision.removed)


# --- fatigue ---


def test_what_was_shown_often_sinks_and_says_so() -> None:
    items = [Item(item_id=f"i{n}") for n in range(20)]
    lists = {item_hash("i0"): listed({f"i{n}": 1 - n / 40 for n in range(1, 20)})}
    who = person([("i0", CODE["like"])], shown={"i1": 3, "i2": 1})
    recipe = Recipe(weights={"covisit": 1.0}, fatigue=Fatigue(factor=0.5, half_life_hours=1.0))
    decision = decide(who, world(items, lists, recipe=recipe), Ask(now=NOW, count=19), "full")
    # an hour ago: three count 1.5, one counts .5
    scores = {item.item_id: item.score for item in decision.items}
    assert ids(decision)[:3] == ["i3", "i4", "i5"]
    assert scores["i3"] == np.float32(1 - 3 / 40)
    assert np.isclose(scores["i2"], (1 - 2 / 40) * 0.5**0.5)
    tired = {
        i.item_id: p for i in decision.items for p in i.contributions if p.feature == "fatigue"
    }
    assert set(tired) == {"i1", "i2"}
    assert tired["i2"].value == 0.5
    assert np.isclose(tired["i2"].effect, (1 - 2 / 40) * (0.5**0.5 - 1))
    # below 0 nothing is discounted: that would be a gain
    below = Recipe(weights={"covisit": -1.0}, fatigue=Fatigue(factor=0.5))
    kept = decide(who, world(items, lists, recipe=below), Ask(now=NOW, count=19), "full").items
    assert {i.item_id: i.score for i in kept}["i1"] == np.float32(1 / 40 - 1)
    off = Recipe(weights={"covisit": 1.0}, fatigue=Fatigue(factor=1.0))
    assert ids(decide(who, world(items, lists, recipe=off), Ask(now=NOW)))[:2] == ["i1", "i2"]


def listed(scores: dict[str, float]) -> bytes:
    return np.array([(item_hash(i), s, s, 0) for i, s in scores.items()], NEIGHBOUR).tobytes()


# --- exploration ---


@quick
@given(SEEDS)
def test_the_other_slots_do_not_know_of_the_draw(seed: int) -> None:
    s = setting(seed)
    answers = [
        decide(s.person, s.world, replace(s.ask, seed=other)) for other in range(seed, seed + 5)
    ]
    first = answers[0]
    for answer in answers[1:]:
        assert ids(answer)[:-1] == ids(first)[:-1]
        assert answer[3:] == first[3:]
    for answer in answers:
        for item in answer.items[:-1]:
            assert (item.explore, item.probability) == (False, 1.0)
        assert all(0 < item.probability <= 1 for item in answer.items)
        if not s.world.recipe.exploration.epsilon:
            assert not any(item.explore for item in answer.items)
            assert "explore" not in answer.sources


def test_the_logged_probability_is_the_frequency_of_the_item() -> None:
    items = catalogue(30, 9, 7)
    recipe = Recipe(exploration=Exploration(0.4), category_cap=0.5, owner_cap=1.0)
    w = world(items, neighbours(items, 5, 7), popularity(items, 7), recipe)
    served = {item.item_id: n // 12 for n, item in enumerate(items)}  # the first 12 never
    arms(w, "home", served)
    who, n = person([("i20", CODE["like"])]), 3000
    found = [
        decide(who, w, Ask(now=NOW, count=4, seed=seed, placement="home"), "none").items[-1]
        for seed in range(n)
    ]
    logged = {item.item_id: item.probability for item in found}
    assert abs(sum(logged.values()) - 1) < 1e-12
    assert len(logged) >= 9
    assert all(served[item.item_id] == 0 for item in found if item.explore)
    times = Counter(item.item_id for item in found)
    chi = sum((times[name] - n * p) ** 2 / (n * p) for name, p in logged.items())
    assert chi < 2 * len(logged) + 12
    # where no item was served yet each may be drawn
    other = [
        decide(who, w, Ask(now=NOW, count=4, seed=seed, placement="other"), "none").items[-1]
        for seed in range(20)
    ]
    assert all(item.probability < 0.4 / 12 for item in other if item.explore)
    assert any(served[item.item_id] > 0 for item in other if item.explore)


def test_the_source_brings_the_least_served_items_whatever_their_number() -> None:
    items = [Item(item_id=f"i{n}", title="the") for n in range(400)]
    w = world(items, recipe=Recipe(exploration=Exploration(1.0)))
    for few in (40, 250):
        # `few` were served once, the others more often, the more the later
        arms(w, "home", {f"i{n}": 1 if n < few else n for n in range(400)})
        case = Case(EMPTY_PERSON, w, Ask(now=NOW + few * 60_000, placement="home"))
        drawn = retrieve(case, 200).retrieved["explore"].slots.tolist()
        names = [w.items.ids[slot] for slot in drawn]
        assert len(set(names)) == len(names) == 100
        if few < 100:
            assert set(names) == {f"i{n}" for n in range(100)}
        else:
            assert set(names) < {f"i{n}" for n in range(few)}
    assert names != sorted(names, key=item_hash)  # mixed by the version of the tables


def test_a_drawn_item_is_marked_as_explored() -> None:
    items = catalogue(30, 9, 7)
    recipe = Recipe(exploration=Exploration(1.0))
    w = world(items, popular=popularity(items, 7), recipe=recipe)
    last = decide(EMPTY_PERSON, w, Ask(now=NOW, count=4)).items[-1]
    assert last.explore
    assert last.reason == ("explore", "Something new for you", ())


def test_an_item_that_cannot_be_shown_takes_no_place() -> None:
    """There are more sold-out items without a served slot than the source brings."""
    items = [Item(item_id=f"gone{n}", available=False) for n in range(300)]
    items += [Item(item_id=f"late{n}", expires_at=NOW - 1) for n in range(300)]
    items += [Item(item_id=f"here{n}", title="the") for n in range(500)]
    recipe = Recipe(exploration=Exploration(1.0), depth=5)
    w = world(items, recipe=recipe)
    arms(w, "home", {f"here{n}": 1 for n in range(499)})
    assert ids(decide(EMPTY_PERSON, w, Ask(now=NOW, count=3, placement="home")))[-1] == "here499"


def test_an_item_in_whose_own_list_the_interest_is_has_a_reason() -> None:
    items = catalogue(30, 3, 5)
    lists = neighbours(items, 4, 5)
    own = lists.pop(item_hash("i1"))  # no list of the interest brings an item: some lists have i1
    assert own
    recipe = Recipe(weights={"covisit_back": 1.0}, ranker=False)
    for weights in ({"covisit_back": 1.0}, {"covisit_back": 1.0, "covisit": 1.0}):
        w = world(items, lists, {}, msgspec.structs.replace(recipe, weights=weights))
        decision = decide(person([("i1", CODE["view"])]), w, Ask(now=NOW, count=5))
        assert {it.reason for it in decision.items if it.score > 0} == {TASTE}
