"""The one `enrich`: from an event as a client sends it to the action that the log holds.

All actions pass through it, imported history too (law 13), so that a fold needs no clock and no second
input (law 3): the action has the time of arrival, the item's category and group, and whether the catalogue
has the item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from schemas import times
from schemas.actions import CLIENT_ACTIONS
from schemas.alphabet import Millis
from schemas.events import MAX_DWELL_MS, MAX_RANK, Action, EventIn, Scalar, Scale, Source
from schemas.identity import check_id, check_item_id
from schemas.reject import Rejected
from serving.edge.identity import Identity, People
from serving.edge.values import DEFAULT_SCALE, JUDGED, set_values

MAX_CLOCK_SKEW_MS: Final[Millis] = 5 * 60_000
"""A client's clock may be ahead by this much. A later time is set to the time of arrival; of history it is
refused, since there the time is all that an event says, and a mended file can be sent again."""
MAX_CONTEXT_FIELDS: Final = 32
MAX_CONTEXT_TEXT_LENGTH: Final = 256
_NO_NUMBERS: Final = (None, None, None, None)
_CLIENT_ACTIONS: Final = frozenset(CLIENT_ACTIONS)

Lookup = Callable[[str], tuple[bool, str, str]]
"""item id -> (whether the catalogue has it, primary category or "", `group_id` or "")."""


class Arrival(msgspec.Struct, frozen=True):
    """The arrival of a request. `shift`: ``received_at - sent_at`` in ms, 0 where the client sent no
    `sent_at`. `scale`: of a rating that brings none. `source`: None for a server without a name, live."""

    received_at: Millis
    shift: Millis = 0
    imported: bool = False
    scale: Scale = DEFAULT_SCALE
    source: Source | None = None


def enrich(
    event: EventIn, event_id: str, arrival: Arrival, people: People, lookup: Lookup
) -> tuple[Action, Identity]:
    """The action of an event, and its person. `user_id` counts where both ids are given. `event_id`: that of
    the event, checked, or one that the server made.

    An imported event must have `occurred_at`, which becomes its `received_at`; its `sent_at` is ignored.
    Errors: `Rejected` with the first field that is wrong.
    """
    person = identify(event, people)
    item_id = check_item_id(event.item_id, "item_id")
    if event.action not in _CLIENT_ACTIONS:
        raise Rejected("action", "unknown_action")
    occurred_at, received_at, clamped = _timestamps(event.occurred_at, arrival)
    if event.rank is not None or event.dwell_ms is not None or event.context:
        _check_fields(event)
    in_catalogue, category, group = lookup(item_id)
    session_id, slate_id = event.session_id, event.slate_id
    action = Action(
        event_id=event_id,
        person=person.pseudonym,
        item_id=item_id,
        action=event.action,
        occurred_at=occurred_at,
        received_at=received_at,
        category=category,
        known=in_catalogue,
        session_id=check_id(session_id, "session_id") if session_id is not None else "",
        slate_id=check_id(slate_id, "slate_id") if slate_id is not None else "",
        rank=event.rank,
        dwell_ms=None if event.dwell_ms is None else round(event.dwell_ms),
        context=event.context or None,
        clamped=clamped,
        group=group,
        source=arrival.source,
    )
    numbers = (event.value, event.currency, event.quantity, event.scale)
    if event.action in JUDGED or numbers != _NO_NUMBERS:
        set_values(action, event, arrival.scale)
    return action, person


def identify(event: EventIn, people: People) -> Identity:
    """The person of an event. An id of blanks alone beside the other one is not given, and is none alone.
    Errors: `Rejected`."""
    user_id, anonymous_id = event.user_id, event.anonymous_id
    if anonymous_id is None:
        if user_id is None:
            raise Rejected("user_id", "required")
        return people.user(user_id)
    if user_id is None or not user_id.strip():
        return people.anonymous(anonymous_id)
    return people.user(user_id)


def _timestamps(text: str | None, arrival: Arrival) -> tuple[Millis, Millis, bool]:
    """(occurred_at, received_at, clamped). The range is asked of the time as `sent_at` corrects it."""
    received_at = arrival.received_at
    if arrival.imported:
        if text is None:
            raise Rejected("occurred_at", "required")
        at = times.parse(text, "occurred_at")
        if at - received_at > MAX_CLOCK_SKEW_MS:
            raise Rejected("occurred_at", "in_the_future")
        return at, at, False
    if text is None:
        return received_at, received_at, False
    at = times.moment(text, "occurred_at") + arrival.shift
    if times.EARLIEST <= at <= received_at + MAX_CLOCK_SKEW_MS:
        return at, received_at, False
    times.check_range(at, "occurred_at")
    return received_at, received_at, True


def _check_fields(event: EventIn) -> None:
    if event.rank is not None and not 0 <= event.rank <= MAX_RANK:
        raise Rejected("rank", "out_of_range")
    if event.dwell_ms is not None and not 0 <= event.dwell_ms <= MAX_DWELL_MS:
        raise Rejected("dwell_ms", "out_of_range")
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
        # beyond 2**53 a reader that has only floats would change a whole number; 1e20 is one, too
        if isinstance(value, int | float) and abs(value) > 2**53:
            raise Rejected(field, "out_of_range")
