"""Columns by hand, and the rows that a ranker sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.release import content
from models.release.release import MAX_RANKED
from schemas.actions import CODE
from schemas.control import Recipe
from schemas.events import Preferences
from schemas.identity import item_hash
from schemas.items import Item
from schemas.state.tables import NEIGHBOUR, WINDOWS
from serving.decide.case import Ask, Case, World
from serving.decide.columns import COLUMN_NAMES, COLUMNS, LOG_FLOOR
from serving.decide.person import EMPTY_PERSON, Person
from serving.decide.rank import feature_rows, rank
from serving.decide.rules import eligible
from serving.decide.score import score
from serving.decide.sources import retrieve
from tests.support.worlds import (
    DAY_MS,
    NOW,
    catalogue,
    neighbours,
    person,
    popularity,
    release,
    released,
    world,
)

FILMS = [
    Item(item_id="a", title="red river", category="x"),
    Item(item_id="b", title="red night", category="y"),
    Item(item_id="c", title="red river", category="y", published_at=NOW - 60 * DAY_MS),
    Item(item_id="d", title="the", category="x", published_at=NOW),
    Item(item_id="e"),
]
EVERY = tuple(column.name for column in COLUMNS)


def listed(scores: dict[str, float]) -> bytes:
    rows = [(item_hash(i), s, s / 4, s * 1.5) for i, s in scores.items()]
    return np.array(rows, NEIGHBOUR).tobytes()


LISTS = {
    item_hash("a"): listed({"c": 0.5, "d": 0.25}),
    item_hash("b"): listed({"d": 0.125, "e": 0.0625}),
    item_hash("e"): listed({"a": 0.75, "b": 0.25, "c": 0.125}),
}
POPULAR = {
    item_hash("c"): np.array([8.0, 4.0, 0.0, 4.0]).tobytes(),
    item_hash("d"): np.array([1.0, 1.0, 2.0, 0.0]).tobytes(),
}


def columns_of(who: Person, over: World, ask: Ask | None = None) -> dict[str, dict[str, float]]:
    """Column -> item -> value."""
    case = Case(who, over, ask or Ask(now=NOW))
    pool = retrieve(case, 100)
    made = feature_rows(case, pool, np.arange(len(pool.slots)), EVERY)
    ids = [over.items.ids[slot] for slot in pool.slots.tolist()]
    return {
        name: dict(zip(ids, made[:, at].tolist(), strict=True)) for at, name in enumerate(EVERY)
    }


def scaled(share: float) -> float:
    return float(np.log1p(share / LOG_FLOOR) / np.log1p(1 / LOG_FLOOR))


def test_every_column_by_hand_agrees() -> None:
    # b first, then a: a is the newest and weighs 1 / 1.6, b .6 / 1.6
    who = person([("b", CODE["like"]), ("a", CODE["view"])], shown={"c": 2}, categories={"b": "y"})
    likes = Preferences(event_id="e", person="p", received_at=NOW, liked_categories=("x",))  # type: ignore[arg-type]
    who.row["newest"] = NOW - 7 * 60_000
    found = columns_of(who._replace(preferences=likes), world(FILMS, LISTS, POPULAR))
    wanted = {
        "covisit": {"c": 0.5 / 1.6, "d": (0.25 + 0.125 * 0.6) / 1.6, "e": 0.0625 * 0.6 / 1.6},
        "covisit_best": {"c": 0.5, "d": 0.25, "e": 0.0625},
        "covisit_last": {"c": 0.5, "d": 0.25, "e": 0.0},
        "covisit_count": {"c": 0.5, "d": 1.0, "e": 0.5},
        "covisit_back": {"c": 0.0, "d": 0.0, "e": (0.75 + 0.25 * 0.6) / 1.6},
        "next": {"c": 0.5 / 4, "d": 0.25 / 4, "e": 0.0},
        "forward": {
            "c": 0.125 / 1.6,
            "d": (0.0625 + 0.03125 * 0.6) / 1.6,
            "e": 0.015625 * 0.6 / 1.6,
        },
        "backward": {"c": 0.75 / 1.6, "d": (0.375 + 0.1875 * 0.6) / 1.6, "e": 0.09375 * 0.6 / 1.6},
        "popular": {"c": 2 / 3, "d": 1.25 / 3, "e": 0.0},
        "popular_like": {"c": scaled(2 / 3), "d": scaled(1.25 / 3), "e": 0.0},
        "popular_1h": {"c": 1.0, "d": 0.125, "e": 0.0},
        "popular_24h": {"c": 1.0, "d": 0.25, "e": 0.0},
        "popular_7d": {"c": 0.0, "d": 1.0, "e": 0.0},
        "popular_90d": {"c": 1.0, "d": 0.0, "e": 0.0},
        "trend": {"c": 1.0, "d": scaled(0.25) - 1, "e": 0.0},
        "fresh": {"c": 0.25, "d": 1.0, "e": 0.0},
        "age": {"c": np.log(61), "d": 0.0, "e": 0.0},
        "category": {"c": 0.0, "d": 1.0, "e": 0.0},
        # the entry of a has no category: that of the item counts
        "affinity": {"c": 1.0, "d": 2 ** (1 / 30 / 1440) / 3, "e": 0.0},
        "same_category_last": {"c": 0.0, "d": 1.0, "e": 0.0},
        "shown": {"c": 2 * 2 ** (-1 / 24), "d": 0.0},
        "history": {"c": np.log(3), "e": np.log(3)},
        "session": {"c": np.log(3)},
        "idle": {"d": np.log(8)},
        "vector": {"c": 0.0},
        "vector_last": {"c": 0.0},
    }
    for column, items in wanted.items():
        for item, value in items.items():
            assert found[column][item] == pytest.approx(value, rel=1e-6), (column, item)
    a, b, c = (content.vector(film) for film in FILMS[:3])
    assert found["content_last"]["c"] == float(a @ c)
    assert found["content"]["c"] == float(content.on_grid(a + np.rint(0.8 * 1024) / 1024 * b) @ c)
    assert found["content"]["e"] == 0
    assert set(found) == set(wanted) | {"content", "content_last"}


def test_without_a_person_every_personal_column_is_empty() -> None:
    w = released(world(FILMS, LISTS, POPULAR), release(FILMS, 1))
    for stranger in (EMPTY_PERSON, person([("a", CODE["dislike"])])):
        found = columns_of(stranger, w)
        impersonal = {"fresh", "age", "trend", "history", "session", "idle"}
        impersonal |= {f"popular_{window}" for window in WINDOWS}
        for column in set(EVERY) - impersonal - {"popular"}:
            assert not any(found[column].values()), column
    off = columns_of(person([("a", CODE["like"])]), w, Ask(now=NOW, personalized=False))
    for column in ("covisit", "vector", "history", "session", "idle", "affinity"):
        assert not any(off[column].values()), column


def test_an_item_outside_the_catalogue_weighs_nothing() -> None:
    w = world(FILMS, LISTS, POPULAR)
    acts = [("b", CODE["like"]), ("a", CODE["view"])]
    more = [("long gone", CODE["like"]), *acts, ("to come", CODE["like"])]
    for column in ("covisit", "covisit_last", "covisit_count", "next", "backward", "content"):
        assert columns_of(person(more), w)[column] == columns_of(person(acts), w)[column]


def test_a_session_that_ended_counts_no_more() -> None:
    who = person([("a", CODE["like"])])
    w = world(FILMS, LISTS, POPULAR)
    assert any(columns_of(who, w)["session"].values())
    later = Ask(now=NOW + 31 * 60_000)
    assert not any(columns_of(who, w, later)["session"].values())


def test_rows_are_in_the_order_of_their_names_and_know_no_others() -> None:
    case = Case(person([("a", CODE["like"])]), world(FILMS, LISTS, POPULAR), Ask(now=NOW))
    pool = retrieve(case, 100)
    every = np.arange(len(pool.slots))
    made = feature_rows(case, pool, every, ("popular", "covisit"))
    assert (made[:, ::-1] == feature_rows(case, pool, every, ("covisit", "popular"))).all()
    assert made.dtype == np.float32
    assert set(EVERY) <= COLUMN_NAMES
    with pytest.raises(KeyError):
        feature_rows(case, pool, every, ("of tomorrow",))


def test_the_model_orders_the_best_and_no_other_item_passes_them() -> None:
    items = catalogue(600, 30, 3)
    recipe = Recipe(category_cap=1.0, owner_cap=1.0, depth=400)
    made = release(items, 3)
    w = released(world(items, neighbours(items, 40, 3), popularity(items, 3), recipe), made)
    case = Case(person([(f"i{n}", CODE["view"]) for n in range(9)]), w, Ask(now=NOW))
    pool = retrieve(case, 400)
    scored = score(case, pool, eligible(case, pool.slots).kept)
    ranked = rank(case, pool, scored)
    assert set(ranked.order[:MAX_RANKED].tolist()) == set(scored.order[:MAX_RANKED].tolist())
    assert ranked.order[MAX_RANKED:].tolist() == scored.order[MAX_RANKED:].tolist()
    said = dict(zip(ranked.reranked.tolist(), ranked.predictions.tolist(), strict=True))
    assert (np.diff([said[place] for place in ranked.order[:MAX_RANKED].tolist()]) <= 0).all()
    scores = ranked.scores[ranked.order]
    assert (np.diff(scores) <= 0).all()
    assert (scores > 0).all()
    assert (scores < 1).all()
    assert scores[MAX_RANKED] < scores[MAX_RANKED - 1]
    assert np.allclose(scores[:MAX_RANKED], 1 / (1 + np.exp(-np.sort(ranked.predictions)[::-1])))
    off = replace(w, recipe=replace_ranker(recipe))
    assert not len(rank(Case(case.person, off, case.ask), pool, scored).reranked)


def replace_ranker(recipe: Recipe) -> Recipe:
    return Recipe(
        ranker=False,
        category_cap=recipe.category_cap,
        owner_cap=recipe.owner_cap,
        depth=recipe.depth,
    )
