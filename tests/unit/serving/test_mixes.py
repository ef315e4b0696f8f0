"""Popularity by mixes of windows: what a mix is, and that each window alone is a source like `popular`."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.actions import CODE
from schemas.control import Recipe
from schemas.items import Item
from schemas.releases import RENAMED
from schemas.state.counting import BUILT_IN, FORMAT_1, Counting, Mix, only
from schemas.state.tables import WINDOWS, Meta, Published
from serving.decide.case import Ask, Case
from serving.decide.columns import LOG_FLOOR
from serving.decide.decide import decide
from serving.decide.groups import choose
from serving.decide.person import EMPTY_PERSON
from serving.decide.pool import Kept
from serving.decide.rank import feature_rows
from serving.decide.results import Decision
from serving.decide.sources import retrieve
from serving.world.tables import MAX_ORDERS, Tables
from tests.support.worlds import (
    NOW,
    catalogue,
    neighbours,
    person,
    popularity,
    release,
    released,
    world,
)
from tests.unit.serving import test_groups, test_recommend

SEEDS = st.integers(0, 10_000)
MIXES = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 3.0])] * len(WINDOWS)).filter(any)
ITEMS = catalogue(60, 4, 1)
quick = settings(max_examples=40, deadline=None)


def loaded() -> Tables:
    return world(ITEMS, popular=popularity(ITEMS, 1)).tables


@quick
@given(MIXES)
def test_the_share_of_a_mix_is_the_weighted_mean_of_the_shares_of_its_windows(mix: Mix) -> None:
    tables = loaded()
    slots = np.flatnonzero(tables.items.in_catalogue).astype(np.int32)
    shares = [tables.share(slots, only(window)) for window in WINDOWS]
    assert tables.share(slots, mix) == pytest.approx(np.average(shares, 0, mix), abs=1e-12)
    own = tables.popularity[slots, 1] / tables.popularity[:, 1].max()
    assert tables.share(slots, only("24h")).tolist() == own.tolist()
    assert tables.share(slots, (0.0, 7.0, 0.0, 0.0)).tolist() == own.tolist()
    order = tables.popular(mix)
    assert sorted(order.tolist()) == slots.tolist()
    places = tables.items
    keys = [
        (-share, -int(places.published[slot]), int(places.hash[slot]))
        for share, slot in zip(tables.share(order, mix).tolist(), order.tolist(), strict=True)
    ]
    assert keys == sorted(keys)
    assert tables.most_popular(slots, mix, 7).tolist() == order[:7].tolist()


def test_an_order_is_made_once_a_version_and_few_are_kept() -> None:
    tables = loaded()
    first = tables.popular(only("24h"))
    assert tables.popular(only("24h")) is first
    for n in range(2 * MAX_ORDERS):
        tables.most_popular(first[:9], (1.0, float(n), 0.0, 0.0), 3)
    assert len(tables._orders) == MAX_ORDERS
    assert len(tables._ranks) <= MAX_ORDERS
    assert tables.popular(only("24h")).tolist() == first.tolist()
    meta = Meta(version=2, positions=[2], landmarks=[0.0] * len(WINDOWS))
    rows = {int(tables.items.hash[first[-1]]): np.full(len(WINDOWS), 1e9).tobytes()}
    tables.apply(Published(meta=meta, neighbours={}, popularity=rows))
    assert tables.popular(only("24h")).tolist() == [first[-1], *first[:-1]]


def test_a_stranger_sees_the_mix_of_strangers_and_who_asks_for_a_window_that_one() -> None:
    counting = Counting(window=only("1h"), strangers=(0.0, 1.0, 0.0, 1.0))
    w = world(ITEMS, popular=popularity(ITEMS, 1))
    assert Case(EMPTY_PERSON, w, Ask(now=NOW)).mix == BUILT_IN.strangers
    w = released(w, replace(release(ITEMS, 1), counting=counting))
    known = person([("i1", CODE["view"])])
    assert Case(known, w, Ask(now=NOW)).mix == counting.window
    assert Case(EMPTY_PERSON, w, Ask(now=NOW, item_id="i2")).mix == counting.window
    for who, ask in (
        (EMPTY_PERSON, Ask(now=NOW)),
        (person([("i1", CODE["dislike"])]), Ask(now=NOW)),
        (known, Ask(now=NOW, personalized=False)),
    ):
        assert Case(who, w, ask).mix == counting.strangers
        assert Case(who, w, replace(ask, window="7d")).mix == only("7d")


def test_an_entry_of_the_interest_weighs_as_the_release_fades() -> None:
    who, w = person([("i1", CODE["view"]), ("i2", CODE["view"])]), world(ITEMS)
    assert Case(who, w, Ask(now=NOW)).interest.weights.tolist() == [1 / 1.6, 0.6 / 1.6]
    for counting, weights in (
        (FORMAT_1, [1 / 1.75, 0.75 / 1.75]),
        (Counting(fade=1.0), [0.5, 0.5]),
        (Counting(fade=0.0), [1.0, 0.0]),
    ):
        held = released(w, replace(release(ITEMS, 1), counting=counting))
        assert Case(who, held, Ask(now=NOW)).interest.weights.tolist() == weights


def test_a_fade_of_0_looks_at_the_newest_action_alone() -> None:
    made = replace(release(ITEMS, 1), counting=Counting(fade=0.0))
    w = released(world(ITEMS, neighbours(ITEMS, 9, 1)), made)
    both = person([("i1", CODE["view"]), ("i2", CODE["view"])])
    columns = ("covisit", "covisit_best", "covisit_last", "covisit_back", "next", "forward")

    def rows(acts: list[str]) -> dict[str, list[float]]:
        case = Case(person([(name, CODE["view"]) for name in acts]), w, Ask(now=NOW))
        pool = retrieve(case, 100)
        found = feature_rows(case, pool, np.arange(len(pool.slots)), columns)
        assert np.isfinite(found).all()
        return {w.items.ids[s]: row for s, row in zip(pool.slots, found.tolist(), strict=True)}

    two, one = rows(["i1", "i2"]), rows(["i2"])
    assert {name: two[name] for name in one} == one
    assert all(not any(row) for name, row in two.items() if name not in one)
    assert decide(both, w, Ask(now=NOW)).items


def plain(decision: Decision, source: str) -> tuple[object, ...]:
    """A decision in which `source` is called "popular"."""
    items = [
        item._replace(sources=tuple(it.replace(source, "popular") for it in item.sources))
        for item in decision.items
    ]
    sources = {name.replace(source, "popular"): n for name, n in decision.sources.items()}
    return items, sources, decision[1:4], decision.removed, decision.kept


@quick
@given(SEEDS, st.sampled_from(WINDOWS), st.booleans())
def test_a_window_alone_ranks_as_the_popular_of_that_window(
    seed: int, window: str, grouped: bool
) -> None:
    s = test_groups.shop(seed) if grouped else test_recommend.setting(seed)
    name = f"popular_{window}"

    def slate(weights: dict[str, float], ask: Ask) -> Decision:
        recipe = msgspec.structs.replace(s.world.recipe, weights=weights, ranker=False)
        return decide(s.person, replace(s.world, recipe=recipe), ask)

    found, expected = (
        slate({name: 1.0}, s.ask),
        slate({"popular": 1.0}, replace(s.ask, window=window)),
    )
    assert plain(found, name) == plain(expected, "popular")


def test_a_window_is_asked_where_it_has_a_weight_and_then_in_place_of_popular() -> None:
    w = world(ITEMS, popular=popularity(ITEMS, 1))

    def asked(**weights: float) -> set[str]:
        return set(decide(EMPTY_PERSON, replace(w, recipe=Recipe(weights)), Ask(now=NOW)).sources)

    assert asked(covisit=1.0) == {"covisit", "popular"}
    assert asked(covisit=1.0, popular_24h=0.1) == {"covisit", "popular_24h"}
    assert asked(popular=1.0, popular_1h=0.1) == {"popular", "popular_1h"}


def test_a_ranker_of_format_1_is_fed_the_log_scaled_windows_that_it_learnt_from() -> None:
    w = world(ITEMS, popular=popularity(ITEMS, 1))
    case = Case(EMPTY_PERSON, w, Ask(now=NOW))
    pool = retrieve(case, 100)
    kept = Kept(np.arange(len(pool.slots)), pool.slots)
    found = feature_rows(case, pool, kept.numbers, tuple(RENAMED.values()))
    for at, before in enumerate(("popular_1h", "popular_24h", "popular_7d")):
        assert RENAMED[before] == f"{before}_log"
        share = w.tables.share(pool.slots, only(WINDOWS[at]))
        expected = np.log1p(share / LOG_FLOOR) / np.log1p(1 / LOG_FLOOR)
        assert found[:, at].tolist() == expected.astype(np.float32).tolist()


def test_items_without_a_date_have_no_age() -> None:
    items = [Item(item_id="new", published_at=NOW), Item(item_id="undated")]
    w = world([*items, Item(item_id="old", published_at=NOW - 9 * 86_400_000)])
    case = Case(EMPTY_PERSON, w, Ask(now=NOW))
    pool = retrieve(case, 100)
    ages = feature_rows(case, pool, np.arange(len(pool.slots)), ("age",))[:, 0]
    found = dict(zip([w.items.ids[slot] for slot in pool.slots], ages.tolist(), strict=True))
    assert found == {"new": 0.0, "undated": 0.0, "old": pytest.approx(np.log(10))}


@quick
@given(SEEDS, st.booleans())
def test_covisitation_is_its_two_directions(seed: int, grouped: bool) -> None:
    s = test_groups.shop(seed) if grouped else test_recommend.setting(seed)
    case = Case(s.person, s.world, s.ask)
    pool = retrieve(case, 200)
    pool = choose(case, pool, np.arange(len(pool.slots))).pool
    every, columns = np.arange(len(pool.slots)), ("covisit", "forward", "backward")
    covisit, forward, backward = feature_rows(case, pool, every, columns).T
    assert covisit == pytest.approx(forward + backward / 2, rel=2e-3, abs=1e-6)
    last, following = feature_rows(case, pool, every, ("covisit_last", "next")).T
    assert following == pytest.approx(last / 4, rel=2e-3, abs=1e-6)
