"""The one `enrich`: what a client says happened becomes what the log says happened.

Every writer of actions passes through it, history too (law 13), so that a fold needs no clock and no
second input (law 3): the time of arrival, the item's category and whether it is known travel in
the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from schemas import times
from schemas.actions import CODE
from schemas.alphabet import Millis
from schemas.events import Action, EventIn, Scalar
from schemas.identity import check_id
from schemas.reject import Rejected
from serving.edge.identity import Identity, People

AHEAD: Final[Millis] = 5 * 60_000
"""A client's clock may run ahead by this much; what lies beyond is set to the time of arrival."""
MOST_CONTEXT: Final = 32
MOST_CONTEXT_TEXT: Final = 256
LARGEST: Final = 1e12
"""Of a `value`: sums of many stay finite and exact to the unit."""

Lookup = Callable[[str], tuple[bool, str]]
"""item id -> (known, primary category or "")."""


class Arrival(NamedTuple):
    """`shift` is ``received_at - sent_at`` where the client told `sent_at`, else 0."""

    received_at: Millis
    shift: Millis = 0
    imported: bool = False


class Enriched(NamedTuple):
    action: Action
    person: Identity


def enrich(
    event: EventIn, event_id: str, arrival: Arrival, people: People, lookup: Lookup
) -> Enriched:
    """The event as the log holds it. `user_id` counts where both ids are given.

    An import's `received_at` is its `occurred_at`, which it must have; its `sent_at` means nothing.
    Errors: `Rejected` naming the first field that is wrong.
    """
    person = who(event, people)
    item_id = check_id(event.item_id, "item_id")
    if event.action not in CODE:
        raise Rejected("action", "unknown_action")
    _check_rest(event)
    occurred_at, received_at, clamped = _when(event.occurred_at, arrival)
    known, category = lookup(item_id)
    return Enriched(
        Action(
            event_id=event_id,
            person=person.pseudonym,
            item_id=item_id,
            action=event.action,
            occurred_at=occurred_at,
            received_at=received_at,
            category=category,
            known=known,
            session_id=event.session_id or "",
            slate_id=event.slate_id or "",
            rank=event.rank,
            value=event.value,
            dwell_ms=event.dwell_ms,
            context=event.context or None,
            clamped=clamped,
        ),
        person,
    )


def who(event: EventIn, people: People) -> Identity:
    if event.user_id is not None:
        return people.user(check_id(event.user_id, "user_id"))
    if event.anonymous_id is not None:
        return people.anonymous(check_id(event.anonymous_id, "anonymous_id"))
    raise Rejected("user_id", "required")


def _when(text: str | None, arrival: Arrival) -> tuple[Millis, Millis, bool]:
    """(occurred_at, received_at, clamped)."""
    if arrival.imported:
        if text is None:
            raise Rejected("occurred_at", "required")
        at = times.parse(text, "occurred_at")
        return at, at, False
    received_at = arrival.received_at
    if text is None:
        return received_at, received_at, False
    at = times.within(times.parse(text, "occurred_at") + arrival.shift, "occurred_at")
    if at - received_at > AHEAD:
        return received_at, received_at, True
    return at, received_at, False


def _check_rest(event: EventIn) -> None:
    for field in ("event_id", "session_id", "slate_id"):
        text = getattr(event, field)
        if text is not None:
            check_id(text, field)
    if event.rank is not None and not 0 <= event.rank <= 1_000_000:
        raise Rejected("rank", "out_of_range")
    if event.dwell_ms is not None and not 0 <= event.dwell_ms <= 2**40:
        raise Rejected("dwell_ms", "out_of_range")
    if event.value is not None and not abs(event.value) <= LARGEST:
        raise Rejected("value", "out_of_range")
    if event.context:
        check_scalars(event.context, "context")


def check_scalars(pairs: dict[str, Scalar], field: str) -> None:
    """A client's own fields: few, short, finite. Errors: `Rejected`."""
    if len(pairs) > MOST_CONTEXT:
        raise Rejected(field, "too_many")
    for name, value in pairs.items():
        text = value if isinstance(value, str) else ""
        if max(len(name), len(text)) > MOST_CONTEXT_TEXT:
            raise Rejected(field, "too_long")
        # beyond 2**53 a whole number would not survive readers that know only floats
        if isinstance(value, int) and abs(value) > 2**53:
            raise Rejected(field, "out_of_range")
