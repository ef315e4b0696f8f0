"""From the bytes of `POST /v1/events` to enriched records and rejections. Pure: no clock, no socket."""

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
MAX_EVENT_BYTES: Final = 32 * 1024
"""Of the record of one event."""
_ALL_UNSET: Final = (UNSET, UNSET, UNSET)


class RequestContext(NamedTuple):
    """A request without its body. `make_id` gives the id of an event that has neither an `event_id` nor an
    idempotency key."""

    received_at: Millis
    make_id: Callable[[], str]
    ndjson: bool = False
    imported: bool = False
    idempotency_key: str | None = None


class Ingested(NamedTuple):
    """`assigned_ids[i]`: the id that the server gave event i, None where the event had one or was
    rejected."""

    records: list[Record]
    rejected: list[Rejection]
    assigned_ids: list[str | None]
    single: bool
    ignored: int
    """Events with fields that only the server may set (API.md, Experiments)."""


def ingest(body: bytes, context: RequestContext, people: People, lookup: Lookup) -> Ingested:
    """Every event of the body, enriched or rejected, in the order of the request.

    Errors: `Problem` 400 or 413, or `Rejected`, where the whole body can't be taken.
    """
    parsed = FORM.read(body, ndjson=context.ndjson)
    arrival = Arrival(context.received_at, _shift(parsed.sent_at, context), context.imported)
    records: list[Record] = []
    assigned_ids: list[str | None] = [None] * len(parsed.entries)
    ignored, key, make_id = 0, context.idempotency_key, context.make_id

    def ingest_one(index: int, event: EventIn) -> None:
        nonlocal ignored
        event_id, assigned_id = event.event_id, None
        if event_id is None:
            # a retry with the same key gives the same ids, so the fold counts the events once
            event_id = f"{key}:{index}" if key is not None else (assigned_id := make_id())
        records.append(_record(event, event_id, arrival, people, lookup))
        ignored += (event.experiments, event.variant, event.propensity) != _ALL_UNSET
        assigned_ids[index] = assigned_id

    rejected = parsed.for_each(ingest_one)
    return Ingested(records, rejected, assigned_ids, parsed.single, ignored)


def _record(
    event: EventIn, event_id: str, arrival: Arrival, people: People, lookup: Lookup
) -> Record:
    action, person = enrich(event, event_id, arrival, people, lookup)
    value = events.encode(action)
    if len(value) > MAX_EVENT_BYTES:
        raise Rejected("body", "too_large")
    return Record(person.key, person.partition, value)


def _shift(sent_at: str | None, context: RequestContext) -> Millis:
    return 0 if sent_at is None else context.received_at - times.parse(sent_at, "sent_at")
