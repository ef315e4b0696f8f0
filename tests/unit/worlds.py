"""Small worlds to decide in, out of a seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from models.features import ROW, VERSION
from models.features.ring import SIZE, write
from schemas.control import Recipe
from schemas.event import Preferences
from schemas.identity import category_hash, item_hash
from schemas.item import Item
from schemas.tables import NEIGHBOUR, WINDOWS, Meta
from serving import offline
from serving.case import World
from serving.control import DEFAULT
from serving.person import Person

NOW = 1_700_000_000_000
WORDS = ["red", "old", "new", "night", "day", "river", "city", "love", "war", "silent", "last"]


def catalogue(n: int, categories: int, seed: int) -> list[Item]:
    """`n` items i0, i1, … of categories c0, c1, … (about one in twelve without), with titles."""
    rng = np.random.default_rng(seed)
    items = []
    for i in range(n):
        words = " ".join(rng.choice(WORDS, 3))
        kind = int(rng.integers(-1 if rng.random() < 0.2 else 0, max(categories, 1)))
        category = f"c{kind}" if kind >= 0 else ""
        items.append(Item(item_id=f"i{i}", title=f"{words} {i}", category=category))
    return items


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
    recipe: Recipe = DEFAULT,
) -> World:
    """The items loaded in the order given, version 1 of the tables."""
    meta = Meta(version=1, positions=[1], landmarks=[0.0] * len(WINDOWS))
    return offline.world(items, meta, lists, popular, recipe)


def person(
    acts: Sequence[tuple[str, int]],
    *,
    categories: Mapping[str, str] | None = None,
    seen: Sequence[str] | None = None,
    hidden: Sequence[str] = (),
    preferences: Preferences | None = None,
) -> Person:
    """Who did `acts` (item id, action code), oldest first, a minute apart, and has seen these."""
    row = np.zeros(1, ROW)[0]
    start = NOW - 60_000 * len(acts)
    keys = [
        (start + 60_000 * at, item_hash(i), category_hash((categories or {}).get(i, "")), action)
        for at, (i, action) in enumerate(acts)
    ]
    write(row, keys[-SIZE:], len(keys))
    row["n"], row["version"] = len(keys), VERSION
    row["newest"] = NOW if keys else 0
    met = [item_id for item_id, _ in acts] if seen is None else seen
    return Person(row, _hashes(met), _hashes(hidden), preferences, None)


def _hashes(item_ids: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array([item_hash(item_id) for item_id in item_ids], np.uint64)
