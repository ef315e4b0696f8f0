"""Random requests: each field alone and beside the others."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.control import Filter
from schemas.identity import group_hash, item_hash
from schemas.state.tables import WINDOWS
from serving.decide.case import Ask, World
from tests.support.drawn_worlds import CATEGORIES, PLACEMENTS, category
from tests.support.worlds import DAY_MS, NOW

Random = np.random.Generator
MOST_EXCLUDED: Final = 10_000
_MOMENTS: Final = (NOW, NOW, NOW, NOW, NOW + 1, NOW - 1, NOW + 61_000, NOW - 45 * DAY_MS)
_FAR_MOMENTS: Final = (NOW + 400 * DAY_MS, 631_152_000_000, 4_102_444_800_000)


def ask(rng: Random, world: World) -> Ask:
    """A request of anything that a read takes."""
    names = [*(name for name in world.items.ids[1:] if name), "m0", "nothing"]
    moments = _MOMENTS if rng.random() < 0.93 else _FAR_MOMENTS
    wanted = rng.random
    return Ask(
        now=moments[int(rng.integers(len(moments)))],
        count=int(rng.choice([1, 2, 3, 10, 10, 10, 24, 100])),
        category=_category(rng) if wanted() < 0.2 else None,
        item_id=str(rng.choice(names)) if wanted() < 0.25 else None,
        exclude=_excluded(rng, names) if wanted() < 0.3 else (),
        served=_served(rng, world) if wanted() < 0.25 else b"",
        personalized=bool(wanted() < 0.9),
        window=str(rng.choice(WINDOWS)) if wanted() < 0.15 else None,
        seed=int(rng.integers(2**64, dtype=np.uint64)),
        filter=filter_(rng) if wanted() < 0.2 else None,
        placement=PLACEMENTS[int(rng.integers(len(PLACEMENTS)))],
        groups=tuple(f"g{n}" for n in rng.integers(0, 8, 3)) if wanted() < 0.2 else (),
    )


def _category(rng: Random) -> str:
    drawn = int(rng.integers(-1, CATEGORIES))
    return category(drawn) if drawn >= 0 else str(rng.choice(["", "nowhere"]))


def _excluded(rng: Random, names: list[str]) -> tuple[str, ...]:
    """A few ids, most of the catalogue, or more ids than there are items."""
    most = int(rng.choice([1, 3, len(names), MOST_EXCLUDED], p=[0.4, 0.3, 0.27, 0.03]))
    found = [str(name) for name in rng.permutation(names)[: int(rng.integers(1, most + 1))]]
    if most == MOST_EXCLUDED:
        found += [f"x{n}" for n in range(most - len(found))]
    return tuple(found)


def _served(rng: Random, world: World) -> bytes:
    """What pages before showed: of items, of groups and of what there is no more."""
    items = world.items
    slots = rng.permutation(np.arange(1, items.size))[: int(rng.integers(0, 60))]
    shown = [item_hash(items.ids[slot]) for slot in slots.tolist()]
    shown += [group_hash(f"g{n}") for n in rng.integers(0, 8, 2)]
    words = [*(word & 0xFFFFFFFF for word in shown), int(rng.integers(2**32))]
    return np.array(words, "<u4").tobytes()


def filter_(rng: Random) -> Filter:
    """A filter of one to all kinds."""

    def some(*texts: str) -> tuple[str, ...]:
        size = int(rng.integers(1, len(texts))) if rng.random() < 0.4 else 0
        return tuple(str(text) for text in rng.permutation(texts)[:size])

    return Filter(
        categories=some("c0", "c1é", "c2", "nowhere"),
        types=some("film", "series", "other"),
        tags=some("t0", "t1", "t2", "t9"),
        owners=some("o0", "o1", "o2", "o9"),
        published_within_days=float(rng.choice([1.5, 50.0, 36_500.0]))
        if rng.random() < 0.3
        else None,
    )
