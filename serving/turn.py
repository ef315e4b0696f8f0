"""Before anything is decided: who asks, of which world, in which experiments; what is known of them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from schemas.control import Filter
from schemas.event import Assigned
from schemas.reject import Rejected
from serving import people as identities
from serving.case import World
from serving.control import Placed
from serving.person import NOBODY, Person, StoreDown
from serving.query import Query
from serving.state import Serving


class Turn(NamedTuple):
    """What is settled before anything is read: who asks, of which world, in which experiments.

    `lacks`: the release that an experiment gives them is not loaded.
    """

    query: Query
    who: identities.Person
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


def assign(serving: Serving, query: Query) -> Turn:
    """Errors: `Rejected`: no such placement or filter of it, a position of another partition."""
    who = _who(serving, query)
    assignment = serving.control.assigned(query.placement, who.pseudonym)
    if assignment is None:
        raise Rejected("placement", "unknown_placement")
    wanted = None
    if query.filter is not None:
        wanted = assignment.placed.recipe.filters.get(query.filter)
        if wanted is None:
            raise Rejected("filter", "unknown_filter")
    of = world(serving, assignment.placed, assignment.release)
    lacks = of.release is None and assignment.release not in ("", serving.control.current)
    return Turn(query, who, of, assignment.experiments, wanted, lacks)


def _who(serving: Serving, query: Query) -> identities.Person:
    if query.user_id is not None:
        who = serving.people.user(query.user_id)
    else:
        who = serving.people.anonymous(query.anonymous_id or "")
    if query.after is not None and query.after.partition != who.partition:
        raise Rejected("after", "wrong_partition")
    return who


def world(serving: Serving, placed: Placed, release: str) -> World:
    """The world as it is now, of the release of this id where it is loaded ("": of none)."""
    loaded = serving.releases.get(release) if release else None
    return World(
        serving.catalogue,
        serving.tables,
        serving.index,
        placed.recipe,
        placed.rules,
        loaded.release if loaded else None,
        loaded.space if loaded else None,
    )


async def read(serving: Serving, turn: Turn) -> Read:
    """What the store knows of who asks; nobody where it is away."""
    query, who = turn.query, turn.who
    try:
        if query.after is None:
            return Read(await serving.reader.read(who.pseudonym, who.partition))
        return Read(*await serving.reader.read_after(who.pseudonym, query.after, query.max_wait_ms))
    except StoreDown:
        return Read(NOBODY, 0, query.after is not None, True)


async def read_each(serving: Serving, turns: list[Turn]) -> list[Read]:
    """Each person once, for all the rows that want the same of them."""
    wants = [(turn.who, turn.query.after, turn.query.max_wait_ms) for turn in turns]
    first = dict(zip(wants, turns, strict=True))
    found = await asyncio.gather(*(read(serving, turn) for turn in first.values()))
    reads = dict(zip(first, found, strict=True))
    return [reads[want] for want in wants]
