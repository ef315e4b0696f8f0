"""Before the decision: the person's identity, their state, and the world that they are served from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

from schemas.access.limits import Exceeded
from schemas.access.scopes import REC_READ
from schemas.alphabet import Pseudonym
from schemas.control import BUILT_IN, Filter, Recipe
from schemas.events import Assigned
from schemas.reject import Rejected
from serving.access.caller import Caller
from serving.context import Serving
from serving.decide.case import World
from serving.decide.person import EMPTY_PERSON, Blobs, Person, StoreDown
from serving.edge.identity import Identity
from serving.read.query import Query
from serving.read.rows import Rows
from serving.read.watch import Stopwatch
from serving.world.placements import Assignment, PlacedRecipe

T = TypeVar("T")
MAX_NAMED: Final = 50
"""Of the placements or filters that a refusal names."""
_IN_SPACE: Final = frozenset({"vector", "vector_last"})
"""Source and column that need the space of a release."""


class PersonRead(NamedTuple):
    """The person as read. `stale`: without the record that `after` names; `down`: the store is away."""

    person: Person
    waited_ms: int = 0
    stale: bool = False
    down: bool = False


class Resolved(NamedTuple):
    """A query with all that it is answered from.

    `experiments`: those whose variants made `world`. `filter`: the named one that the query asks for.
    `release_missing`: the recipe uses a release, and it is not loaded.
    """

    query: Query
    identity: Identity
    person_read: PersonRead
    world: World
    experiments: tuple[Assigned, ...]
    filter: Filter | None
    release_missing: bool


async def resolve_page(context: Serving, rows: Rows, watch: Stopwatch) -> list[Resolved]:
    """`read_person` and `assign` for each row of a page; rows that read the same of a person share the read.
    Errors: `Rejected`, with the path of the row's field."""
    identities = [for_row(rows, n, identify, context, row) for n, row in enumerate(rows.rows)]
    reads = await _read_people(context, list(zip(rows.rows, identities, strict=True)))
    watch("read")
    resolved = [
        for_row(rows, n, assign, context, row, identity, reads[n])
        for n, (row, identity) in enumerate(zip(rows.rows, identities, strict=True))
    ]
    watch("assign")
    return resolved


def world(context: Serving, placed: PlacedRecipe, release: str) -> World:
    """The world as it is now, with the release of this id where it is loaded ("": without one)."""
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


def identify(context: Serving, query: Query) -> Identity:
    """The identity that the query names. Errors: `Rejected`: an unknown placement, a position of another
    partition."""
    if query.user_id is not None:
        identity = context.people.user(query.user_id)
    else:
        identity = context.people.anonymous(query.anonymous_id or "")
    if query.after is not None and query.after.partition != identity.partition:
        raise Rejected("after", "wrong_partition")
    if context.control.placed(query.placement) is None:
        raise _unknown("placement", {*BUILT_IN, *context.control.placements})
    return identity


def check_own(context: Serving, caller: Caller, query: Query) -> None:
    """Checks that the caller may read for the query's person, if it has one: before any store is asked.

    Errors: `Problem` 403, `Rejected`.
    """
    people = context.people
    if query.user_id is not None:
        people.check_own(caller, REC_READ, people.user(query.user_id))
    elif query.anonymous_id is not None:
        people.check_own(caller, REC_READ, people.anonymous(query.anonymous_id))


async def read_person(context: Serving, query: Query, identity: Identity) -> PersonRead:
    """The person as the store has them; an empty one where the store is away. Errors: `Exceeded`."""
    try:
        if query.after is None:
            return PersonRead(
                await context.reader.read(identity.pseudonym, identity.partition, query.spending)
            )
        return PersonRead(
            *await context.reader.read_after(
                identity.pseudonym, query.after, query.max_wait_ms, query.spending
            )
        )
    except StoreDown:
        return PersonRead(EMPTY_PERSON, 0, query.after is not None, True)


def person_found(
    context: Serving, identity: Identity, found: Blobs | StoreDown | Exceeded
) -> PersonRead:
    """As `read_person` of a query without `after`, of what `PersonReader.submit` found."""
    try:
        return PersonRead(context.reader.decoded(identity.pseudonym, identity.partition, found))
    except StoreDown:
        return PersonRead(EMPTY_PERSON, down=True)


async def _read_people(context: Serving, queries: list[tuple[Query, Identity]]) -> list[PersonRead]:
    keys = [(identity, query.after, query.max_wait_ms) for query, identity in queries]
    # the first of those that are alike: the first row has what the page takes of limits
    distinct = dict(zip(reversed(keys), reversed(queries), strict=True))
    found = await asyncio.gather(
        *(read_person(context, query, identity) for query, identity in distinct.values())
    )
    reads = dict(zip(distinct, found, strict=True))
    return [reads[key] for key in keys]


def assign(context: Serving, query: Query, identity: Identity, person_read: PersonRead) -> Resolved:
    """The query with the variant that the person gets. Variants are drawn with the person's first id, so
    that a link keeps them (`models.outcomes.links`).

    Errors: `Rejected`: an unknown placement, or a filter that it does not have.
    """
    first = person_read.person.links.first or identity.pseudonym
    assignment, named_filter = assigned_to(context, query, Pseudonym(first))
    assigned = world(context, assignment.placed, assignment.release)
    missing = bool(assignment.release) and assigned.release is None
    return Resolved(
        query,
        identity,
        person_read,
        assigned,
        assignment.experiments,
        named_filter,
        missing and _uses_release(assigned.recipe),
    )


def assigned_to(
    context: Serving, query: Query, person: Pseudonym
) -> tuple[Assignment, Filter | None]:
    """What `person` gets at the placement, and the filter that the query names. Errors: as `assign`."""
    assignment = context.control.assigned(query.placement, person)
    if assignment is None:
        raise _unknown("placement", {*BUILT_IN, *context.control.placements})
    if query.filter is None:
        return assignment, None
    named_filter = assignment.placed.recipe.filters.get(query.filter)
    if named_filter is None:
        raise _unknown("filter", assignment.placed.recipe.filters)
    return assignment, named_filter


def _unknown(what: str, there: Iterable[str]) -> Rejected:
    """The refusal of a `what` that there is not, which names those there are."""
    names = sorted(there)
    more = ", ..." if len(names) > MAX_NAMED else ""
    taken = ", ".join(names[:MAX_NAMED]) + more
    takes = f"{what} takes one of {taken}." if names else f"The placement has no {what}."
    return Rejected(what, f"unknown_{what}", takes)


def _uses_release(recipe: Recipe) -> bool:
    """Whether the recipe takes its weights, its ranker or its space from a release."""
    weights = recipe.weights
    return weights is None or recipe.ranker or not _IN_SPACE.isdisjoint(weights)


def for_row(rows: Rows, row: int, step: Callable[..., T], *arguments: object) -> T:
    """Runs `step` for one row. Errors: `Rejected`, with the path of the row's field."""
    try:
        return step(*arguments)
    except Rejected as error:
        raise Rejected(rows.path(row, error.field), error.code, error.takes) from None
