"""Random people: what the flow folds of random actions, in each form in which the store may have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.features.registry import ROW, read_row
from models.outcomes import impressions
from models.release.person import Encoder
from schemas import events
from schemas.actions import CLIENT_ACTIONS
from schemas.events import Preferences
from schemas.keys import PLAIN
from schemas.state import vectors
from serving.decide.case import World
from serving.decide.person import STORED_FIELDS, Blobs
from tests.laws.world import Memory, action, fold_log, log_of, person, served
from tests.support.worlds import DAY_MS, NOW

Random = np.random.Generator
NOTHING_STORED: Final[Blobs] = [None] * len(STORED_FIELDS)
MOST_ACTIONS: Final = 200
_OLD_VERSION: Final = (2).to_bytes(2, "little")


@dataclass(frozen=True)
class Goods:
    """What people act on: ids, and of each item its categories and its group."""

    names: list[str]
    category: dict[str, str]
    group: dict[str, str]


def goods(world: World) -> Goods:
    """The items of a world, also those that were dropped, and some that it never had."""
    items = world.items
    names = [name for name in items.ids[1:] if name] + [f"m{n}" for n in range(5)]
    slots = range(1, items.size)
    return Goods(
        names,
        {items.ids[slot]: items.categories.texts[items.category[slot]] for slot in slots},
        {items.ids[slot]: items.groups.texts[items.group[slot]] for slot in slots},
    )


def blobs(rng: Random, world: World) -> Blobs:
    """A person as the store has them, or as it has nobody."""
    if rng.random() < 0.1:
        return list(NOTHING_STORED)
    there = goods(world)
    memory = folded(rng, there, world)
    key = (0, person(1))
    found = {
        "row": memory.values.get(PLAIN.row(*key)),
        "seen": memory.values.get(PLAIN.seen(*key)),
        "preferences": memory.values.get(PLAIN.preferences(*key)),
        "impressions": memory.values.get(PLAIN.impressions(*key)),
        "vector": memory.values.get(PLAIN.vector(*key)),
    }
    found |= _other_forms(rng, found, world)
    if rng.random() < 0.03:
        found["tombstone"] = b"1"
    return [found.get(name) for name in STORED_FIELDS]


def folded(rng: Random, there: Goods, world: World) -> Memory:
    """What the flow folds of a random log of one person."""
    count = int(rng.choice([0, 1, 3, 12, 60, MOST_ACTIONS]))
    favourites = rng.choice(there.names, min(len(there.names), int(rng.integers(1, 60))))
    moments = np.sort(NOW - (rng.exponential(rng.choice([3e5, 3e7, 2e9]), count)).astype(np.int64))
    made: list[events.Event] = []
    for n, at in enumerate(moments.tolist()):
        made.append(_action(rng, n, str(rng.choice(favourites)), at, there))
    for n in range(int(rng.choice([0, 0, 1, 4, 12]))):
        at = NOW - int(rng.exponential(rng.choice([1e6, 2e8])))
        items = [str(name) for name in rng.permutation(there.names)[: rng.integers(1, 12)]]
        made.append(served(f"s{n}", items, 1, at))
    if rng.random() < 0.4:
        made.append(preferences(rng, there))
    encoder = None
    if world.release is not None and rng.random() < 0.7:
        encoder = Encoder(world.release.id, world.release.space)
    return fold_log(log_of(made), encoder=encoder) if made else Memory()


def _action(rng: Random, n: int, item: str, at: int, there: Goods) -> events.Action:
    what = str(rng.choice(["view", "click", "like", "purchase", *CLIENT_ACTIONS]))
    more: dict[str, Any] = {}
    if what == "purchase":
        more = {"amount": 5, "currency": "EUR", "negative": bool(rng.random() < 0.2)}
    elif what == "rate":
        more = {"negative": bool(rng.random() < 0.4)}
    late = 8 * DAY_MS if rng.random() < 0.03 else 0
    return action(
        n,
        1,
        item,
        what,
        at=at - late,
        received_at=at,
        category=there.category.get(item, ""),
        group=there.group.get(item, ""),
        session_id=f"v{n // 20}",
        **more,
    )


def preferences(rng: Random, there: Goods) -> Preferences:
    """Preferences with some entries of each kind, also such as the catalogue does not have."""
    categories = [*sorted(set(there.category.values())), "nowhere"]

    def some(texts: list[str], most: int) -> tuple[str, ...]:
        size = int(rng.integers(0, most)) if rng.random() < 0.5 else 0
        return tuple(str(text) for text in rng.permutation(texts)[:size])

    return Preferences(
        event_id="p",
        person=person(1),
        received_at=NOW,
        personalized=bool(rng.random() < 0.85),
        liked_categories=some(categories, 4),
        hidden_categories=some(categories, 3),
        hidden_items=some(there.names, 20),
        hidden_owners=some(["o0", "o1", "o9", ""], 3),
    )


def _other_forms(
    rng: Random, found: dict[str, bytes | None], world: World
) -> dict[str, bytes | None]:
    """Some of the values as an earlier version, or another release, would have stored them."""
    others: dict[str, bytes | None] = {}
    row, shown = found["row"], found["impressions"]
    if row is not None and rng.random() < 0.15:
        others["row"] = _of_version_2(row)
    if shown is not None and rng.random() < 0.5:
        rows = impressions.read(shown).copy()
        if rng.random() < 0.5:
            rows["count"][rng.random(len(rows)) < 0.4] = 100_000  # beyond a byte
            others["impressions"] = impressions.write(rows)
        else:
            others["impressions"] = rows.tobytes()
    if rng.random() < 0.15:
        others["vector"] = _vector(rng, world)
    return others


def _of_version_2(blob: bytes) -> bytes:
    row = read_row(blob)
    unused = max(0, ROW["ring"].shape[0] - int(row["n"])) * ROW["ring"].base.itemsize
    return _OLD_VERSION + row.tobytes()[2 : ROW.itemsize - unused]


def _vector(rng: Random, world: World) -> bytes:
    """A vector that no fold would make: of any release, complete or not, also without a direction."""
    release = world.release.id if world.release is not None and rng.random() < 0.6 else "other"
    grid = (rng.integers(-200, 201, 64) * (rng.random() < 0.8)).astype("<i2").tobytes()
    return vectors.ENCODER.encode(vectors.Vector(release, bool(rng.random() < 0.7), grid))
