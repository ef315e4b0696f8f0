"""From the bytes of `POST /v1/events` to enriched records and rejections. Pure: no clock, no socket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import msgspec
from msgspec import UNSET

from schemas import events, times
from schemas.access.scopes import EVENTS_WRITE_ANY
from schemas.alphabet import Millis
from schemas.api.patterns import USER_FIRST
from schemas.events import Action, EventIn, Scale, Source
from schemas.identity import check_id
from schemas.record import Record
from schemas.reject import Rejected
from serving.edge.currencies import MINOR_UNITS
from serving.edge.enrich import Arrival, Lookup, enrich
from serving.edge.identity import Identity, People
from serving.edge.values import DEFAULT_SCALE
from serving.http.errors import FieldError, Problem, forbidden
from serving.http.forms import Form, Rejection
from serving.http.registry import refine

FORM: Final = Form(EventIn, "events")
refine("EventIn", anyOf=USER_FIRST)
refine("EventIn", "currency", enum=sorted(MINOR_UNITS))
MAX_EVENT_BYTES: Final = 32 * 1024
"""Of the record of one event."""
_NULL: Final = msgspec.Raw(b"null")
_ACTION: Final = msgspec.json.Decoder(Action)


class RequestContext(msgspec.Struct, frozen=True):
    """A request without its body. `make_id` gives the id of an event that has neither an `event_id` nor an
    idempotency key; `source`, `scale`: as `Arrival`'s."""

    received_at: Millis
    make_id: Callable[[], str]
    ndjson: bool = False
    imported: bool = False
    idempotency_key: str | None = None
    source: Source | None = None
    scale: Scale = DEFAULT_SCALE
    own: Identity | None = None
    """The one person whose events the caller may send; None: anybody's."""


class Ingested(msgspec.Struct, frozen=True):
    """`assigned_ids[i]`: the id that the server gave event i, None where the event had one or was
    rejected. `fingerprint`: of the parsed events without `sent_at`; b"" without an idempotency key."""

    records: list[Record]
    rejected: list[Rejection]
    assigned_ids: list[str | None]
    single: bool
    ignored: int
    """Events with fields that only the server may set (API.md, Experiments)."""
    duplicates: int = 0
    """Events that equal an earlier one of the request in all that names an action; it has the record."""
    unknown_items: int = 0
    """Records on items that the catalogue does not have."""
    fingerprint: bytes = b""


def ingest(body: bytes, context: RequestContext, people: People, lookup: Lookup) -> Ingested:
    """Every event of the body, enriched or rejected, in the order of the request.

    Errors: `Problem` 400, 403 or 413, or `Rejected`, where the whole body can't be taken.
    """
    parsed = FORM.read(body, ndjson=context.ndjson)
    arrival = Arrival(
        context.received_at,
        _shift(parsed.sent_at, context),
        context.imported,
        context.scale,
        context.source,
    )
    if len(parsed.entries) > 1:  # a few items are in many events
        lookup = cache(lookup)
    records: list[Record] = []
    own_ids: list[str] = []
    unknown = 0
    assigned_ids: list[str | None] = [None] * len(parsed.entries)
    ignored, key, make_id = 0, context.idempotency_key, context.make_id
    own = context.own

    def ingest_one(index: int, event: EventIn) -> None:
        nonlocal ignored, unknown
        event_id, assigned_id = event.event_id, None
        if event_id is not None:
            event_id = check_id(event_id, "event_id")
            own_ids.append(event_id)
        elif key is not None:
            # a retry with the same key gives the same ids, so the fold counts the events once
            event_id = name_of_key(key, index)
        else:
            event_id = assigned_id = make_id()
        action, person = enrich(event, event_id, arrival, people, lookup)
        if own is not None and person != own:
            raise _not_own(event, None if parsed.single else index)
        records.append(_record(action, person))
        if not action.known:
            unknown += 1
        if not (event.experiments is event.variant is event.propensity is UNSET):
            given = (event.experiments, event.variant, event.propensity)
            ignored += any(it is not UNSET and it != _NULL for it in given)
        assigned_ids[index] = assigned_id

    rejected = parsed.for_each(ingest_one)
    count, unknown_items = len(records), unknown
    if len(set(own_ids)) < len(own_ids):  # else no two lines are alike
        records, unknown_items = _distinct(records)
    return Ingested(
        records,
        rejected,
        assigned_ids,
        parsed.single,
        ignored,
        count - len(records),
        unknown_items,
        fingerprint(parsed.entries) if key is not None else b"",
    )


def _not_own(event: EventIn, index: int | None) -> Problem:
    """The refusal of a whole request that holds an event of somebody else."""
    problem = forbidden(EVENTS_WRITE_ANY)
    name = "user_id" if event.user_id else "anonymous_id"
    field = name if index is None else f"{FORM.name}[{index}].{name}"
    problem.errors = [FieldError(field, "not_own")]
    return problem


def name_of_key(key: str, index: int = 0) -> str:
    """The id of event `index` of a request with this Idempotency-Key; no id of a client equals it, since
    those hold no NUL."""
    return f"\0key\0{key}\0{index}"


def fingerprint(entries: Sequence[EventIn | Rejected]) -> bytes:
    """(16,) BLAKE2b of the entries of a request as they were read, without the fields that only the server
    may set. Requests whose JSON differs in spaces and in the order of fields alone have the same one."""
    read = [_read(entry) for entry in entries]
    return hashlib.blake2b(msgspec.json.encode(read, order="sorted"), digest_size=16).digest()


def _read(entry: EventIn | Rejected) -> EventIn | str:
    if isinstance(entry, Rejected):
        return str(entry)  # its field and code alone: it could not be read
    # what is ignored was not parsed, so it has the client's spaces
    return msgspec.structs.replace(entry, experiments=UNSET, variant=UNSET, propensity=UNSET)


def _distinct(records: list[Record]) -> tuple[list[Record], int]:
    """The records without those that equal an earlier one in all that names an action (law 12), and how many
    of them are on unknown items."""
    first: dict[object, tuple[Record, bool]] = {}
    for record in records:
        action = _ACTION.decode(record.value)
        refund = action.negative and action.action == "purchase"
        name = (record.key, action.event_id, action.item_id, action.action, refund)
        first.setdefault(name, (record, action.known))
    return [record for record, _ in first.values()], sum(not known for _, known in first.values())


def _record(action: Action, person: Identity) -> Record:
    value = events.encode(action)
    if len(value) > MAX_EVENT_BYTES:
        raise Rejected("body", "too_large")
    return Record(person.key, person.partition, value)


def _shift(sent_at: str | None, context: RequestContext) -> Millis:
    return 0 if sent_at is None else context.received_at - times.moment(sent_at, "sent_at")
