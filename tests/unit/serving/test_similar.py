"""Similar items: by content, or in the space of a loaded release."""

from __future__ import annotations

import numpy as np

from models.release import content
from models.release.release import Release, Space
from schemas.identity import item_hash
from serving.decide import offline
from serving.decide.case import Ask
from serving.decide.decide import decide
from serving.decide.person import EMPTY_PERSON
from serving.read.lists import SIMILAR, SIMILAR_IN_SPACE
from tests.support import worlds

ITEMS = worlds.catalogue(60, 6, 3)


def space(seed: int) -> Space:
    """A space of random vectors, which is unlike content."""
    hashes = np.sort(np.array([item_hash(item.item_id) for item in ITEMS], np.uint64))
    random = np.random.default_rng(seed).normal(size=(len(ITEMS), content.DIM))
    return Space(hashes, content.rows_on_grid(random), np.zeros_like)


def test_similar_items_are_the_nearest_in_the_space_of_the_release() -> None:
    made = space(1)
    release = Release("r", (), {}, made)
    world = offline.world(ITEMS, recipe=SIMILAR_IN_SPACE.recipe, release=release)
    decision = decide(EMPTY_PERSON, world, Ask(now=worlds.NOW, item_id="i5", count=7))
    own = made.vectors[made.find(np.array([item_hash("i5")], np.uint64))][0]
    cosines = dict(zip(made.hashes.tolist(), (made.vectors @ own).tolist(), strict=True))
    best = sorted(ITEMS, key=lambda item: -cosines[item_hash(item.item_id)])
    assert [it.item_id for it in decision.items] == [item.item_id for item in best[1:8]]
    assert decision.fallback is None
    assert all("vector" in it.sources for it in decision.items)


def test_without_a_release_similar_items_are_those_of_like_content() -> None:
    world = offline.world(ITEMS, recipe=SIMILAR.recipe)
    decision = decide(EMPTY_PERSON, world, Ask(now=worlds.NOW, item_id="i5", count=7))
    assert decision.fallback == "content"
    assert all("content" in it.sources for it in decision.items)
    unknown = decide(EMPTY_PERSON, world, Ask(now=worlds.NOW, item_id="nothing", count=7))
    assert unknown.fallback == "popular"


def test_nothing_is_drawn_and_nothing_is_capped() -> None:
    same = [item for item in ITEMS if item.category == ITEMS[5].category]
    world = offline.world(same, recipe=SIMILAR.recipe)
    ask = Ask(now=worlds.NOW, item_id="i5", count=5)
    decision = decide(EMPTY_PERSON, world, ask)
    assert len(decision.items) == 5
    assert decision.relaxed == ()
    assert all(it.probability == 1 and not it.explore for it in decision.items)
