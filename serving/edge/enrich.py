"""The one `enrich`: from an event as a client sends it to the action that the log holds.

All actions pass through it, imported history too (law 13), so that a fold needs no clock and no second
input (law 3): the action has the time of arrival, the item's category and whether the catalogue has the
item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from schemas import times
from schemas.actions import CLIENT_ACTIONS
from schemas.alphabet import Millis
from schemas.events import Action, EventIn, Scalar
from schemas.identity import check_id
from schemas.reject import Rejected
from serving.edge.identity import Identity, People

MAX_CLOCK_SKEW_MS: Final[Millis] = 5 * 60_000
"""A client's clock may be ahead by this much; a later time is set to the time of arrival."""
MAX_CONTEXT_FIELDS: Final = 32
MAX_CONTEXT_TEXT_LENGTH: Final = 256
MAX_VALUE: Final = 1e12
"""Of the field `value`: sums of many stay finite and exact to the unit."""

Lookup = Callable[[str], tuple[bool, str]]
"""item id -> (whether the catalogue has it, primary category or "")."""


class Arrival(NamedTuple):
    """The arrival of a request. `shift`: ``received_at - sent_at`` in ms, 0 where the client sent no
    `sent_at`."""

    received_at: Millis
    shift: Millis = 0
    imported: bool = False


class Enriched(NamedTuple):
    action: Action
    person: Identity


def enrich(
    event: EventIn, event_id: str, arrival: Arrival, people: People, lookup: Lookup
) -> Enriched:
    """The action of an event, and its person. `user_id` counts where both ids are given.

    An imported event must have `occurred_at`, which becomes its `received_at`; its `sent_at` is ignored.
    Errors: `Rejected` with the first field that is wrong.
    """
    person = identify(event, people)
    item_id = check_id(event.item_id, "item_id")
    if event.action not in CLIENT_ACTIONS:
        raise Rejected("action", "unknown_action")
    _check_fields(event)
    occurred_at, received_at, clamped = _timestamps(event.occurred_at, arrival)
    in_catalogue, category = lookup(item_id)
    return Enriched(
        Action(
            event_id=event_id,
            person=person.pseudonym,
            item_id=item_id,
            action=event.action,
            occurred_at=occurred_at,
            received_at=received_at,
            category=category,
            known=in_catalogue,
            session_id=event.session_id or "",
            slate_id=event.slate_id or "",
            rank=event.rank,
            value=event.value,
            dwell_ms=None if event.dwell_ms is None else round(event.dwell_ms),
            context=event.context or None,
            clamped=clamped,
        ),
        person,
    )


def identify(event: EventIn, people: People) -> Identity:
    """The person of an event. Errors: `Rejected`."""
    if event.user_id is not None:
        return people.user(check_id(event.user_id, "user_id"))
    if event.anonymous_id is not None:
        return people.anonymous(check_id(event.anonymous_id, "anonymous_id"))
    raise Rejected("user_id", "required")


def _timestamps(text: str | None, arrival: Arrival) -> tuple[Millis, Millis, bool]:
    """(occurred_at, received_at, clamped)."""
    if arrival.imported:
        if text is None:
            raise Rejected("occurred_at", "required")
        at = times.parse(text, "occurred_at")
        return at, at, False
    received_at = arrival.received_at
    if text is None:
        return received_at, received_at, False
    at = times.check_range(times.parse(text, "occurred_at") + arrival.shift, "occurred_at")
    if at - received_at > MAX_CLOCK_SKEW_MS:
        return received_at, received_at, True
    return at, received_at, False


def _check_fields(event: EventIn) -> None:
    for field in ("event_id", "session_id", "slate_id"):
        text = getattr(event, field)
        if text is not None:
            check_id(text, field)
    if event.rank is not None and not 0 <= event.rank <= 1_000_000:
        raise Rejected("rank", "out_of_range")
    if event.dwell_ms is not None and not 0 <= event.dwell_ms <= 2**40:
        raise Rejected("dwell_ms", "out_of_range")
    if event.value is not None and not abs(event.value) <= MAX_VALUE:
        raise Rejected("value", "out_of_range")
    if event.context:
        check_scalars(event.context, "context")


def check_scalars(pairs: dict[str, Scalar], field: str) -> None:
    """Checks a client's own fields: their number, lengths and range. Errors: `Rejected`."""
    if len(pairs) > MAX_CONTEXT_FIELDS:
        raise Rejected(field, "too_many")
    for name, value in pairs.items():
        text = value if isinstance(value, str) else ""
        if max(len(name), len(text)) > MAX_CONTEXT_TEXT_LENGTH:
            raise Rejected(field, "too_long")
        # beyond 2**53 a reader that has only floats would change a whole number
        if isinstance(value, int) and abs(value) > 2**53:
            raise Rejected(field, "out_of_range")
