"""Before anything is decided: who asks, what is known of them, and of which world they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from schemas.alphabet import Pseudonym
from schemas.control import Filter, Recipe
from schemas.events import Assigned
from schemas.reject import Rejected
from serving.context import Serving
from serving.decide.case import World
from serving.decide.person import EMPTY_PERSON, Person, StoreDown
from serving.edge import identity
from serving.read.query import Query
from serving.read.rows import Rows
from serving.read.watch import Stopwatch
from serving.world.placements import PlacedRecipe

T = TypeVar("T")
_IN_SPACE: Final = frozenset({"vector", "vector_last"})
"""Source and columns that need the space of a release."""


class PersonRead(NamedTuple):
    """What is known of the person. `stale`: without what `after` names; `down`: the store is away."""

    person: Person
    waited_ms: int = 0
    stale: bool = False
    down: bool = False


class Resolved(NamedTuple):
    """A query with all that it is answered from.

    `experiments`: those whose variants made `world`. `filter`: the named one that it asks for.
    `lacks`: a release should have a say in what they get, and none is loaded.
    """

    query: Query
    who: identity.Identity
    known: PersonRead
    world: World
    experiments: tuple[Assigned, ...]
    filter: Filter | None
    lacks: bool


async def resolve(context: Serving, query: Query, watch: Stopwatch) -> Resolved:
    """Reads the person, then assigns variants. Errors: `Rejected`: no such placement or filter, a position
    of another partition."""
    who = _identify(context, query)
    known = await _read_person(context, query, who)
    watch("read")
    resolved = _assign(context, query, who, known)
    watch("assign")
    return resolved


async def resolve_page(context: Serving, asked: Rows, watch: Stopwatch) -> list[Resolved]:
    """The same for each row of a page, of the world that there is now; each person is read once for all
    rows that want the same of them. Errors: `Rejected`, under the path of the row's field."""
    people = [_for_row(asked, n, _identify, context, row) for n, row in enumerate(asked.rows)]
    known = await _read_people(context, list(zip(asked.rows, people, strict=True)))
    watch("read")
    resolved = [
        _for_row(asked, n, _assign, context, row, who, known[n])
        for n, (row, who) in enumerate(zip(asked.rows, people, strict=True))
    ]
    watch("assign")
    return resolved


def world(context: Serving, placed: PlacedRecipe, release: str) -> World:
    """The world as it is now, of the release of this id where it is loaded ("": of none)."""
    loaded = context.releases.get(release) if release else None
    return World(
        context.catalogue,
        context.filters,
        context.tables,
        context.index,
        placed.recipe,
        placed.rules,
        loaded.release if loaded else None,
        loaded.space if loaded else None,
    )


def _identify(context: Serving, query: Query) -> identity.Identity:
    """Errors: `Rejected`: no such placement, a position of another partition."""
    if query.user_id is not None:
        who = context.people.user(query.user_id)
    else:
        who = context.people.anonymous(query.anonymous_id or "")
    if query.after is not None and query.after.partition != who.partition:
        raise Rejected("after", "wrong_partition")
    if context.control.placed(query.placement) is None:
        raise Rejected("placement", "unknown_placement")
    return who


async def _read_person(context: Serving, query: Query, who: identity.Identity) -> PersonRead:
    """What the store knows of who asks; nobody where it is away."""
    try:
        if query.after is None:
            return PersonRead(await context.reader.read(who.pseudonym, who.partition))
        return PersonRead(
            *await context.reader.read_after(who.pseudonym, query.after, query.max_wait_ms)
        )
    except StoreDown:
        return PersonRead(EMPTY_PERSON, 0, query.after is not None, True)


async def _read_people(
    context: Serving, every: list[tuple[Query, identity.Identity]]
) -> list[PersonRead]:
    wants = [(who, query.after, query.max_wait_ms) for query, who in every]
    first = dict(zip(wants, every, strict=True))
    found = await asyncio.gather(
        *(_read_person(context, query, who) for query, who in first.values())
    )
    reads = dict(zip(first, found, strict=True))
    return [reads[want] for want in wants]


def _assign(context: Serving, query: Query, who: identity.Identity, known: PersonRead) -> Resolved:
    """Variants are drawn with the person's first id, so that a link keeps them (`models.outcomes.links`).

    Errors: `Rejected`: no such placement, or filter of it.
    """
    first = known.person.links.first or who.pseudonym
    assignment = context.control.assigned(query.placement, Pseudonym(first))
    if assignment is None:
        raise Rejected("placement", "unknown_placement")
    wanted = None
    if query.filter is not None:
        wanted = assignment.placed.recipe.filters.get(query.filter)
        if wanted is None:
            raise Rejected("filter", "unknown_filter")
    of = world(context, assignment.placed, assignment.release)
    lacks = bool(assignment.release) and of.release is None and _uses_release(of.recipe)
    return Resolved(query, who, known, of, assignment.experiments, wanted, lacks)


def _uses_release(recipe: Recipe) -> bool:
    """Whether a release has a say in what the recipe serves: its weights, its ranker or its space."""
    weights = recipe.weights
    return weights is None or recipe.ranker or not _IN_SPACE.isdisjoint(weights)


def _for_row(asked: Rows, row: int, step: Callable[..., T], *arguments: object) -> T:
    """A step for one row. Errors: `Rejected`, under the path of the row's field."""
    try:
        return step(*arguments)
    except Rejected as why:
        raise Rejected(asked.path(row, why.field), why.code) from None
