"""Before anything is decided: who asks, of which world, in which experiments; what is known of them."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from schemas.alphabet import Pseudonym
from schemas.control import Filter, Recipe
from schemas.event import Assigned
from schemas.reject import Rejected
from serving.context import Serving
from serving.decide.case import World
from serving.decide.person import NOBODY, Person, StoreDown
from serving.edge import identity
from serving.read.query import Query
from serving.world.placements import Placed

_IN_SPACE: Final = frozenset({"vector", "vector_last"})
"""Source and columns that need the space of a release."""


class Asking(NamedTuple):
    """Who asks for what."""

    query: Query
    who: identity.Person


class Turn(NamedTuple):
    """What is settled before anything is decided: who asks, of which world, in which experiments.

    `lacks`: a release should have a say in what they get, and none is loaded.
    """

    query: Query
    who: identity.Person
    world: World
    experiments: tuple[Assigned, ...]
    filter: Filter | None
    lacks: bool


class Read(NamedTuple):
    """What is known of the person. `stale`: without what `after` names; `down`: the store is away."""

    person: Person
    waited_ms: int = 0
    stale: bool = False
    down: bool = False


def asking(serving: Serving, query: Query) -> Asking:
    """Errors: `Rejected`: no such placement, a position of another partition."""
    if query.user_id is not None:
        who = serving.people.user(query.user_id)
    else:
        who = serving.people.anonymous(query.anonymous_id or "")
    if query.after is not None and query.after.partition != who.partition:
        raise Rejected("after", "wrong_partition")
    if serving.control.placed(query.placement) is None:
        raise Rejected("placement", "unknown_placement")
    return Asking(query, who)


def assign(serving: Serving, asking: Asking, known: Read) -> Turn:
    """Variants are drawn with the person's first id, so that a link keeps them (`models.outcomes.links`).

    Errors: `Rejected`: no such placement, or filter of it.
    """
    query, who = asking
    first = known.person.links.first or who.pseudonym
    assignment = serving.control.assigned(query.placement, Pseudonym(first))
    if assignment is None:
        raise Rejected("placement", "unknown_placement")
    wanted = None
    if query.filter is not None:
        wanted = assignment.placed.recipe.filters.get(query.filter)
        if wanted is None:
            raise Rejected("filter", "unknown_filter")
    of = world(serving, assignment.placed, assignment.release)
    lacks = bool(assignment.release) and of.release is None and asks_release(of.recipe)
    return Turn(query, who, of, assignment.experiments, wanted, lacks)


def asks_release(recipe: Recipe) -> bool:
    """Whether a release has a say in what the recipe serves: its weights, its ranker or its space."""
    weights = recipe.weights
    return weights is None or recipe.ranker or not _IN_SPACE.isdisjoint(weights)


def world(serving: Serving, placed: Placed, release: str) -> World:
    """The world as it is now, of the release of this id where it is loaded ("": of none)."""
    loaded = serving.releases.get(release) if release else None
    return World(
        serving.catalogue,
        serving.filters,
        serving.tables,
        serving.index,
        placed.recipe,
        placed.rules,
        loaded.release if loaded else None,
        loaded.space if loaded else None,
    )


async def read(serving: Serving, asking: Asking) -> Read:
    """What the store knows of who asks; nobody where it is away."""
    query, who = asking
    try:
        if query.after is None:
            return Read(await serving.reader.read(who.pseudonym, who.partition))
        return Read(*await serving.reader.read_after(who.pseudonym, query.after, query.max_wait_ms))
    except StoreDown:
        return Read(NOBODY, 0, query.after is not None, True)


async def read_each(serving: Serving, every: list[Asking]) -> list[Read]:
    """Each person once, for all the rows that want the same of them."""
    wants = [(asking.who, asking.query.after, asking.query.max_wait_ms) for asking in every]
    first = dict(zip(wants, every, strict=True))
    found = await asyncio.gather(*(read(serving, asking) for asking in first.values()))
    reads = dict(zip(first, found, strict=True))
    return [reads[want] for want in wants]
