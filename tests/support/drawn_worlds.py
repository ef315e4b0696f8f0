"""Random worlds: a catalogue with all that an item may have, tables of all kinds, releases, recipes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from hypothesis import strategies as st

from models.arrays import U64
from schemas import times
from schemas.control import Exploration, Fatigue, Recipe, Repeat
from schemas.identity import category_hash, item_hash
from schemas.items import Item, with_primary
from schemas.state.tables import ARM, ARM_KEY, NEIGHBOUR, WINDOWS, Meta, Published
from serving.decide import offline
from serving.decide.case import World
from serving.decide.columns import COLUMN_NAMES
from serving.decide.sources import SOURCES
from serving.world.index import SpaceIndex
from tests.support import drawn_releases
from tests.support.drawn_releases import Kind
from tests.support.worlds import DAY_MS, NOW, WORDS

Random = np.random.Generator
PLACEMENTS: Final = ("home", "shelf", "")
CATEGORIES: Final = 8
"""c0, which has most items, to c7; of an item without a primary one none. A letter of two bytes in each."""
SIZES: Final = (0, 1, 2, 5, 11, 30, 70, 120, 250, 400)
BEYOND: Final = 1_300
"""Items of a world with more candidates than are scored."""
WEIGHABLE: Final = sorted({*COLUMN_NAMES, *(source.name for source in SOURCES)})


class Shape(NamedTuple):
    """What a world is made of. `exact`: up to so many items the search is exact."""

    seed: int
    items: int
    grouped: bool
    release: Kind
    exact: int = 20_000


shapes: Final = st.builds(
    Shape,
    seed=st.integers(0, 10_000),
    items=st.sampled_from(SIZES),
    grouped=st.booleans(),
    release=st.sampled_from(drawn_releases.KINDS),
    exact=st.just(20_000),  # else it is drawn, too: a graph depends on the order of insertion
)
"""Of worlds that are searched exactly."""
large: Final = st.builds(
    Shape,
    seed=st.integers(0, 1),
    items=st.just(BEYOND),
    grouped=st.booleans(),
    release=st.sampled_from(drawn_releases.KINDS),
    exact=st.just(20_000),  # else it is drawn, too: a graph depends on the order of insertion
)
"""Of worlds with more candidates than are scored: few, because they take long to make."""


def category(number: int) -> str:
    return f"c{number}é" if number % 2 else f"c{number}"


def item(rng: Random, number: int, grouped: bool) -> Item:
    """The item i<number>, as the edge would put it."""
    kinds = rng.geometric(0.4, 3) - 1
    several = [category(int(kind)) for kind in kinds[1 : rng.integers(1, 4)] if kind < CATEGORIES]
    title = rng.choice(["words"] * 8 + ["", " "])
    if title == "words":
        title = f"{' '.join(rng.choice(WORDS, 3))} ({rng.integers(1960, 2030)})"
    found = Item(
        item_id=f"i{number}",
        title=str(title),
        category=category(int(kinds[0])) if kinds[0] < CATEGORIES and rng.random() < 0.9 else "",
        categories=tuple(several),
        type=str(rng.choice(["film", "series", ""])),
        owner_id=str(rng.choice(["", "o0", "o0", "o1", "o2", "o3", "o4"])),
        tags=tuple({f"t{tag}" for tag in rng.integers(0, 5, rng.integers(0, 3))}),
        group_id=_group(rng) if grouped else "",
        available=bool(rng.random() < 0.93),
        published_at=_published(rng),
        expires_at=_expires(rng),
    )
    return with_primary(found)


def _group(rng: Random) -> str:
    """One of many small groups, or of a few that take more variants than are brought at once."""
    share = rng.random()
    if share < 0.3:
        return ""
    return f"g{rng.integers(0, 3)}" if share < 0.6 else f"g{rng.integers(3, 60)}"


def _published(rng: Random) -> int | None:
    days = int(rng.integers(0, 400))
    moments = (NOW - days * DAY_MS, NOW - days * 61_001, NOW, NOW + 1, NOW + days * DAY_MS)
    drawn = rng.random()
    if drawn < 0.35:
        return None
    if drawn < 0.4:
        return int(rng.choice([0, -1, -3_000_000_000_000, times.LATEST]))
    return moments[0] if drawn < 0.85 else moments[int(rng.integers(len(moments)))]


def _expires(rng: Random) -> int | None:
    if rng.random() < 0.85:
        return None
    moments = (NOW - DAY_MS, NOW, NOW + 1, NOW + 3_600_000, NOW + 90 * DAY_MS, times.LATEST + 1)
    return moments[int(rng.integers(len(moments)))]


def names(shape: Shape) -> list[str]:
    """The ids of the catalogue, and of ten items that it does not have."""
    return [*(f"i{n}" for n in range(shape.items)), *(f"m{n}" for n in range(10))]


def neighbours(rng: Random, item_ids: Sequence[str], most: int = 50) -> dict[int, bytes]:
    """Lists of at most `most` items each, some of them empty, with equal scores among them; by hash."""
    hashes: U64 = np.array([item_hash(name) for name in item_ids], np.uint64)
    lists = {}
    for own in hashes[rng.random(len(hashes)) < 0.8].tolist():
        count = min(int(rng.integers(0, most + 1)), len(hashes) - 1)
        others = rng.choice(hashes, count, replace=False)
        listed = np.zeros(count, NEIGHBOUR)
        listed["item"] = others
        listed["forward"] = np.round(rng.random(count), int(rng.integers(1, 5)))
        listed["backward"] = rng.random(count) * (rng.random(count) < 0.7)
        score = np.maximum(listed["forward"] + listed["backward"] / np.float32(2), 1e-4)
        listed["score"] = score / score.max(initial=1e-4)
        lists[own] = listed[np.lexsort((others, -listed["score"]))].tobytes()
    return lists


def popularity(rng: Random, item_ids: Sequence[str]) -> dict[int, bytes]:
    """Rows of some of the items: zeros, equal ones, tiny ones; now and then of no item, or with a window in
    which nothing happened."""
    rows = np.floor(rng.pareto(1.0, (len(item_ids), len(WINDOWS))) * rng.choice([1, 1, 7]))
    rows[rng.random(rows.shape) < 0.05] = 1e-300
    rows[:, rng.random(len(WINDOWS)) < 0.1] = 0
    share = rng.choice([0.0, 0.5, 0.9, 1.0, 1.0])
    return {
        item_hash(name): row.tobytes()
        for name, row in zip(item_ids, rows, strict=True)
        if rng.random() < share
    }


def arms(rng: Random, item_ids: Sequence[str]) -> dict[bytes, bytes]:
    """How often each placement but the last served each of some items."""
    rows = {}
    for placement in PLACEMENTS[:-1]:
        for name in item_ids:
            if rng.random() < 0.6:
                key = np.array([(category_hash(placement), item_hash(name))], ARM_KEY)
                arm = np.zeros(1, ARM)
                arm["served"] = rng.integers(0, 4) if rng.random() < 0.99 else 2**32 - 1
                rows[key.tobytes()] = arm.tobytes()
    return rows


def published(rng: Random, item_ids: Sequence[str], version: int) -> Published:
    """A version of the tables: some rows of each."""
    meta = Meta(version=version, positions=[version], landmarks=[0.0] * len(WINDOWS))
    return Published(
        meta=meta,
        neighbours=neighbours(rng, item_ids),
        popularity=popularity(rng, item_ids),
        arms=arms(rng, item_ids),
    )


@lru_cache(maxsize=8)
def world(shape: Shape, order: int = 0) -> World:
    """The world of this shape. `order`: 0 takes the items as they come, another number shuffles them, and
    gives each another slot."""
    rng = np.random.default_rng(shape.seed)
    items = [item(rng, number, shape.grouped) for number in range(shape.items)]
    versions = [published(rng, names(shape), 1), published(rng, names(shape)[::3], 2)]
    gone = [name for name in names(shape) if rng.random() < 0.06]
    if order:
        np.random.default_rng(order).shuffle(items)  # a list, in place
    made = offline.world(items, exact=shape.exact)
    for version in versions:
        made.tables.apply(version)
    for name in gone:
        made.items.drop(name)
    while not made.index.refresh(limit=97):
        pass
    return released(made, shape.release, shape.seed)


def released(world: World, kind: Kind, seed: int) -> World:
    """The world with a release of this kind, in force."""
    release = drawn_releases.release(kind, seed % drawn_releases.SEEDS)
    if release is None:
        return replace(world, release=None, space=None)
    space = SpaceIndex(world.items, release, world.index.exact)
    space.refresh()
    return replace(world, release=release, space=space)


def weights(rng: Random) -> dict[str, float]:
    """Weights of some sources and columns: also 0, negative and huge ones."""
    some = rng.choice(WEIGHABLE, int(rng.integers(1, 9)), replace=False)
    values = rng.choice(
        [1.0, 0.3, 0.015, 0.0, -0.2, 1e6], len(some), p=[0.3, 0.3, 0.2, 0.1, 0.09, 0.01]
    )
    found = {str(name): float(value) for name, value in zip(some, values, strict=True)}
    if rng.random() < 0.6:
        found |= {"covisit": 1.0, "content": 0.2}
    return found


def recipe(rng: Random) -> Recipe:
    """A recipe with anything that control takes."""

    def one_of(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    waits = ("never", "0s", "45s", "12h", "1d", "1d", "30d", "999999999d")
    return Recipe(
        weights=None if rng.random() < 0.3 else weights(rng),
        ranker=bool(rng.random() < 0.8),
        category_cap=one_of(0.01, 0.1, 0.3, 0.3, 0.5, 1.0),
        owner_cap=one_of(0.01, 0.1, 0.3, 0.3, 0.7, 1.0),
        fresh_days=one_of(0.0, 0.0, 0.01, 30.0, 3650.0),
        fatigue=Fatigue(
            factor=one_of(1.0, 0.8, 0.5, 1e-3), half_life_hours=one_of(24.0, 1.0, 1e-3, 1e6)
        ),
        exploration=Exploration(epsilon=one_of(0.0, 0.0, 0.1, 0.5, 1.0)),
        repeat=Repeat(view=one_of(*waits), click=one_of(*waits), purchase=one_of(*waits)),
        depth=one_of(1, 3, 20, 200, 200, 1000),
    )
