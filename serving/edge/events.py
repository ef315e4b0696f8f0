"""From the bytes of `POST /v1/events` to stamped records and rejections. Pure: no clock, no socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec import UNSET

from schemas import events, times
from schemas.alphabet import Millis
from schemas.events import EventIn
from schemas.record import Record
from schemas.reject import Rejected
from serving.edge.enrich import Arrival, Lookup, enrich
from serving.edge.identity import People
from serving.http.forms import Form, Rejection

FORM: Final = Form(EventIn, "events")
MOST_BYTES: Final = 32 * 1024
"""Of one event as it is logged."""
_NOT_SAID: Final = (UNSET, UNSET, UNSET)


class RequestContext(NamedTuple):
    """What a request says beside its body. `make_id` names an event that nothing else names."""

    received_at: Millis
    make_id: Callable[[], str]
    ndjson: bool = False
    imported: bool = False
    idempotency_key: str | None = None


class Ingested(NamedTuple):
    """`assigned_ids[i]` is the id that the server gave event i, None where it had one or was rejected."""

    records: list[Record]
    rejected: list[Rejection]
    assigned_ids: list[str | None]
    single: bool
    ignored: int
    """Events with fields that only the server may set (API.md, Experiments)."""


def ingest(body: bytes, context: RequestContext, people: People, lookup: Lookup) -> Ingested:
    """Every event of the body, stamped or rejected; order is kept.

    Errors: `Problem` 400 or 413, or `Rejected`, where the body as a whole can't be taken.
    """
    parsed = FORM.read(body, ndjson=context.ndjson)
    arrival = Arrival(context.received_at, _shift(parsed.sent_at, context), context.imported)
    records: list[Record] = []
    assigned_ids: list[str | None] = [None] * len(parsed.entries)
    ignored, key, make_id = 0, context.idempotency_key, context.make_id

    def take(index: int, event: EventIn) -> None:
        nonlocal ignored
        event_id, new = event.event_id, None
        if event_id is None:
            # a retry under the same key gives the same names, so the fold counts it once
            event_id = f"{key}:{index}" if key is not None else (new := make_id())
        records.append(_record(event, event_id, arrival, people, lookup))
        ignored += (event.experiments, event.variant, event.propensity) != _NOT_SAID
        assigned_ids[index] = new

    rejected = parsed.take(take)
    return Ingested(records, rejected, assigned_ids, parsed.single, ignored)


def _record(
    event: EventIn, event_id: str, arrival: Arrival, people: People, lookup: Lookup
) -> Record:
    action, person = enrich(event, event_id, arrival, people, lookup)
    value = events.encode(action)
    if len(value) > MOST_BYTES:
        raise Rejected("body", "too_large")
    return Record(person.key, person.partition, value)


def _shift(sent_at: str | None, context: RequestContext) -> Millis:
    return 0 if sent_at is None else context.received_at - times.parse(sent_at, "sent_at")
