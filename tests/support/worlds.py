"""Small worlds from a seed, for decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.features.registry import ROW, VERSION
from models.features.ring import COUNTED, IN_SESSION, RING_SIZE, write
from models.outcomes.impressions import IMPRESSION
from models.release import content
from models.release.release import Release, Scores, Space, Vectors
from models.seen import HIDE, NONE, PURCHASE, VIEW, Entries, of_person
from models.seen import entries as entries_of
from schemas.control import Recipe
from schemas.events import Preferences
from schemas.identity import category_hash, item_hash
from schemas.items import Item
from schemas.state.tables import ARM, ARM_KEY, NEIGHBOUR, WINDOWS, Meta, Published
from serving.decide import offline
from serving.decide.case import World
from serving.decide.columns import COLUMNS
from serving.decide.person import Person
from serving.world.index import SpaceIndex
from serving.world.placements import DEFAULT_RECIPE

NOW = 1_700_000_000_000
DAY_MS = 86_400_000
WORDS = ["red", "old", "new", "night", "day", "river", "city", "love", "war", "silent", "last"]


def catalogue(n: int, categories: int, seed: int) -> list[Item]:
    """`n` items i0, i1, … of categories c0, c1, … (about one in twelve without), with titles, owners
    o0 … o9 and tags t0 … t2; about half say when they were published, in the 100 days before `NOW`."""
    rng = np.random.default_rng(seed)
    items = []
    for i in range(n):
        words = " ".join(rng.choice(WORDS, 3))
        kind = int(rng.integers(-1 if rng.random() < 0.2 else 0, max(categories, 1)))
        category = f"c{kind}" if kind >= 0 else ""
        owner, tag, days = (int(n) for n in rng.integers((0, 0, -100), (11, 4, 100)))
        items.append(
            Item(
                item_id=f"i{i}",
                title=f"{words} {i}",
                category=category,
                type="film" if i % 3 else "series",
                owner_id=f"o{owner}" if owner < 10 else "",
                tags=(f"t{tag}",) if tag < 3 else (),
                published_at=NOW - days * DAY_MS if days >= 0 else None,
            )
        )
    return items


def space(items: Sequence[Item], seed: int, share: float = 0.7) -> Space:
    """Random vectors of about `share` of the items; a random rotation of their contents for the others."""
    rng = np.random.default_rng(seed)
    rotation = rng.normal(size=(content.DIM, content.DIM))
    hashes = np.sort(
        np.array([item_hash(i.item_id) for i in items if rng.random() < share], np.uint64)
    )
    made = np.array([content.on_grid(v) for v in rng.normal(size=(len(hashes), content.DIM))])

    def encode(vectors: Vectors) -> Vectors:
        return np.array([content.on_grid(rotation @ v.astype(np.float64)) for v in vectors])

    return Space(hashes, made.reshape(-1, content.DIM).astype(np.float32), encode)


def release(
    items: Sequence[Item],
    seed: int,
    *,
    coarse: Mapping[str, float] | None = None,
    ranker: bool = True,
    share: float = 0.7,
) -> Release:
    """A release that ranks by a random step function of every column, as trees do."""
    features = tuple(column.name for column in COLUMNS)
    weights = np.random.default_rng(seed + 1).normal(size=len(features))

    def rank(rows: Vectors) -> Scores:
        return np.round(rows.astype(np.float64) @ weights * 4).astype(np.float32) / np.float32(4)

    weighs = {"covisit": 1.0, "vector": 0.3, "popular": 0.1} if coarse is None else coarse
    vectors = space(items, seed, share)
    return Release(f"r{seed}", features, weighs, vectors, rank if ranker else None)


def released(world: World, release: Release, exact: int = 20_000) -> World:
    """The world with this release in force."""
    index = SpaceIndex(world.items, release, exact)
    while not index.refresh(limit=7):
        pass
    return replace(world, release=release, space=index)


def neighbours(items: Sequence[Item], each: int, seed: int) -> dict[int, bytes]:
    """Random lists of at most `each`, best 1.0."""
    rng = np.random.default_rng(seed)
    hashes = np.array([item_hash(item.item_id) for item in items], np.uint64)
    lists = {}
    for own in hashes:
        others = rng.choice(hashes, min(each, len(hashes)), replace=False)
        listed = np.zeros(len(others), NEIGHBOUR)
        listed["item"] = others
        listed["score"] = np.sort(rng.random(len(others), np.float32))[::-1]
        listed["score"] /= listed["score"][0]
        listed["forward"], listed["backward"] = listed["score"] / 4, listed["score"] * 1.5
        lists[int(own)] = listed[listed["item"] != own].tobytes()
    return lists


def popularity(items: Sequence[Item], seed: int) -> dict[int, bytes]:
    rng = np.random.default_rng(seed)
    rows = np.floor(rng.pareto(1.0, (len(items), len(WINDOWS))))
    return {item_hash(i.item_id): row.tobytes() for i, row in zip(items, rows, strict=True)}


def world(
    items: Iterable[Item],
    lists: Mapping[int, bytes] | None = None,
    popular: Mapping[int, bytes] | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> World:
    """The items loaded in the order given, version 1 of the tables."""
    meta = Meta(version=1, positions=[1], landmarks=[0.0] * len(WINDOWS))
    return offline.world(items, meta, lists, popular, recipe)


def arms(world: World, placement: str, served: Mapping[str, int]) -> None:
    """Sets how often the placement has served each item."""
    arms = {}
    for name, count in served.items():
        key = np.array([(category_hash(placement), item_hash(name))], ARM_KEY)
        arm = np.zeros(1, ARM)
        arm["served"], arm["n"] = count, count
        arms[key.tobytes()] = arm.tobytes()
    meta = Meta(version=2, positions=[2], landmarks=[0.0] * len(WINDOWS))
    world.tables.apply(Published(meta=meta, neighbours={}, popularity={}, arms=arms))


def person(
    acts: Sequence[tuple[str, int]],
    *,
    categories: Mapping[str, str] | None = None,
    seen: Sequence[str] | None = None,
    hidden: Sequence[str] = (),
    bought: Sequence[str] = (),
    preferences: Preferences | None = None,
    shown: Mapping[str, int] | None = None,
) -> Person:
    """Who did `acts` (item id, action code), oldest first, a minute apart, has seen these, and was shown
    some so often, an hour ago."""
    row = np.zeros(1, ROW)[0]
    start = NOW - 60_000 * len(acts)
    keys = [
        (
            start + 60_000 * at,
            item_hash(i),
            category_hash((categories or {}).get(i, "")),
            action,
            1 + at,
            IN_SESSION | COUNTED,
        )
        for at, (i, action) in enumerate(acts)
    ]
    write(row, keys[-RING_SIZE:], len(keys))
    row["n"], row["version"] = len(keys), VERSION
    row["newest"] = NOW if keys else 0
    row["session_last"], row["session_n"] = row["newest"], min(len(keys), 4)
    met = of_person(NONE, row) if seen is None else _entries(seen, VIEW)
    entries = np.concatenate([met, _entries(bought, PURCHASE), _entries(hidden, HIDE)])
    return Person(row, entries, preferences, None, _shown(shown or {}))


def _shown(shown: Mapping[str, int]) -> NDArray[np.void]:
    hour_ago = NOW // 1000 - 3600
    rows = sorted((item_hash(name), count, hour_ago) for name, count in shown.items())
    return np.array(rows, IMPRESSION)


def _entries(item_ids: Sequence[str], bits: int) -> Entries:
    return entries_of([item_hash(item_id) for item_id in item_ids], NOW // 1000, bits)
