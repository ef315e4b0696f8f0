"""What a decision shows in a replay, and the candidates that it chooses from: serving's own stages."""

from __future__ import annotations

import numpy as np

from infra.apps.replay.recipe import SLATE_SIZE
from serving.decide.case import Ask, Case, World
from serving.decide.decide import decide
from serving.decide.groups import choose, same_thing
from serving.decide.person import Person
from serving.decide.pool import Pool
from serving.decide.results import Scored
from serving.decide.rules import eligible
from serving.decide.score import score
from serving.decide.sources import retrieve, shortlist
from serving.world.catalogue import Slots


def slate(person: Person, world: World, now: int) -> Slots:
    """Slots of the items that `person` is shown at `now` (ms)."""
    page = decide(person, world, Ask(now=now, count=SLATE_SIZE), "none").items
    return np.array([item.slot for item in page], np.int32)


def candidates(person: Person, world: World, now: int) -> tuple[Case, Pool, Scored]:
    """The stages up to the coarse score."""
    case = Case(person, world, Ask(now=now, count=SLATE_SIZE))
    pool = retrieve(case, world.recipe.depth)
    pool, kept, _ = choose(case, pool, eligible(case, pool.slots).kept)
    return case, pool, score(case, pool, shortlist(pool, kept))


def place(world: World, slots: Slots, slot: int) -> int | None:
    """The first place of `slots` that has the item, or a variant of it."""
    there = np.flatnonzero(same_thing(world.items, slots, slot))
    return int(there[0]) if len(there) else None


def unseen(world: World, person: Person) -> int:
    """How many items of the catalogue the person has not seen."""
    seen = np.unique(world.items.locate(person.seen["item"].astype(np.uint64)))
    return world.items.count - int(world.items.in_catalogue[seen[seen > 0]].sum())
