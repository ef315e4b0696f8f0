"""What requests take of the limits of their callers, beside a read's own (`serving.state.spending`)."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import RedisError

from schemas.access.limits import (
    ADMINISTRATION,
    EVENTS,
    EVENTS_SUBJECT,
    IMPORTS,
    ITEMS,
    NEW_CATEGORIES,
    NEW_ITEMS,
    READS,
    READS_SUBJECT,
    Budget,
)
from schemas.access.scopes import EVENTS_WRITE, REC_READ
from schemas.record import Record
from serving.access.caller import Caller
from serving.edge.new_names import CatalogueNames
from serving.http.errors import Problem
from serving.state.leases import Leases
from serving.state.spending import Spending

Wanted = list[tuple[str, str, int]]
"""(policy, subject, number), as `serving.state.leases.Leases.take` has it."""


def events(caller: Caller, count: int, *, imported: bool = False) -> Wanted:
    """What so many events take. A subject is limited where the token is of that one alone."""
    if imported:
        return [(IMPORTS, caller.client, count)]
    wanted = [(EVENTS, caller.client, count)]
    if not caller.may_for_anybody(EVENTS_WRITE):
        wanted.append((EVENTS_SUBJECT, caller.person, count))
    return wanted


def take_items(
    leases: Leases, names: CatalogueNames, caller: Caller, records: Sequence[Record]
) -> Budget | None:
    """Takes changes of items, and what is new to the catalogue in them. Errors: `Exceeded`."""
    wanted = [(ITEMS, caller.client, max(1, len(records)))]
    if not (leases.has(NEW_ITEMS) or leases.has(NEW_CATEGORIES)):
        return leases.take(*wanted)
    new = names.new(records)
    wanted += [
        (NEW_ITEMS, caller.client, len(new.items)),
        (NEW_CATEGORIES, caller.client, len(new.categories)),
    ]
    budget = leases.take(*wanted)
    names.remember(new)
    return budget


def take_list(leases: Leases, caller: Caller) -> Spending:
    """Takes a read that asks the store for nobody. Errors: `Exceeded`."""
    wanted = [(READS, caller.client, 1)]
    if not caller.may_for_anybody(REC_READ):
        wanted.append((READS_SUBJECT, caller.person, 1))
    return Spending.leased(leases.take(*wanted))


async def take_act(leases: Leases, caller: Caller) -> None:
    """Takes an act of administration. Errors: `Exceeded`; `Problem` 503 while the store is away: nobody knows
    then how often it was done."""
    try:
        await leases.ask(ADMINISTRATION, caller.client)
    except (RedisError, OSError, TimeoutError):
        raise Problem(
            503,
            "store_down",
            "The store does not answer, so nothing is administered; retry.",
            headers={"Retry-After": "1"},
        ) from None
