"""How every write runs: the request is read, its records are appended, the answer is 202.

Between reading and appending, a pure function of `serving.edge` makes the records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from infra.kafka.produce.errors import NotDurable
from schemas import control
from schemas.alphabet import Position
from schemas.headers import traced
from schemas.record import Record
from schemas.topics import CONTROL, EVENTS, Topic
from serving.context import Serving, state
from serving.edge.events import name_of_key
from serving.http.body import idempotency_key, path_id, read_body, traceparent
from serving.http.errors import FieldError, Problem, json_response
from serving.http.forms import Rejection
from serving.http.guard import caller
from serving.http.parameters import check_query
from serving.log.durability import not_durable
from serving.routes.audited import administering

Durable = Literal["broker", "spool"]


class Written(msgspec.Struct, kw_only=True):
    """`position` is that of the record, opaque, null where the spool has it; `positions` is the same as a
    list, as for events. `dropped`, only where there are some: the attributes of an item that are not kept, by
    `wrong_type` (a list or an object), `null`, or `out_of_range` (a number beyond 2^53)."""

    position: str | None
    positions: list[str]
    durable: Durable = "broker"
    dropped: list[FieldError] | msgspec.UnsetType = msgspec.UNSET


class Accepted(msgspec.Struct, kw_only=True):
    """`positions`: the highest one per partition written to, opaque; none where the spool has the records.
    `durable`: what has the accepted records, the broker, or an fsynced spool that is sent to the log later.

    `duplicates`: events that equal an earlier one of the request in person, event_id, item, action and sign
    of the value; that one alone is appended. `unknown_items`: accepted events on items that the catalogue
    does not have yet. Neither is there at 0.

    `event_ids`, only where the server made the id of an event: one per event of the request, null where the
    client sent an id or the event was rejected.

    `dropped`, only where there are some: the first 1,000 attributes of accepted items that are not kept
    (`Written`).
    """

    accepted: int
    rejected: list[Rejection]
    positions: list[str]
    durable: Durable = "broker"
    duplicates: int | msgspec.UnsetType = msgspec.UNSET
    unknown_items: int | msgspec.UnsetType = msgspec.UNSET
    event_ids: list[str | None] | msgspec.UnsetType = msgspec.UNSET
    dropped: list[Rejection] | msgspec.UnsetType = msgspec.UNSET


class Receipt(NamedTuple):
    """What has the records, and the highest offset of each partition; none where the spool has them."""

    durable: Durable
    offsets: Mapping[int, int]


async def append(request: Request, topic: Topic, records: Sequence[Record]) -> Receipt:
    """Appends to the broker, or to the spool while the broker is away. Errors: `Problem` 413, 503."""
    serving = state(request)
    # a change of `control` is a compare-and-set against the state now in force: refused, never spooled
    log = serving.producer if topic is CONTROL else serving.writes
    headers = traced(topic.headers, traceparent(request))
    try:
        offsets = await log.append(topic.name, records, headers)
    except NotDurable as error:
        raise not_durable(serving.metrics, error) from None
    return Receipt("spool", {}) if offsets is None else Receipt("broker", offsets)


async def append_each(request: Request, topic: Topic, *records: Record) -> Response:
    """A 202 for records that `write_each` appends. Errors: `Problem` 413, 503."""
    return json_response(await write_each(request, topic, *records), 202)


async def append_change(request: Request, record: Record) -> Response:
    """A 202 for a change of `control`, which is recorded in `audit`. Errors: `Problem` 413; 503, also where
    nothing keeps that record: then nothing is changed."""
    serving, change = state(request), control.decode(record.value)
    if not serving.producer.available.is_set():  # no change is spooled
        raise not_durable(serving.metrics, NotDurable())
    target = f"{change.subject}:{change.id}"
    async with administering(request, target, reason=change.reason) as act:
        written = await write_each(request, CONTROL, record)
        act.position = f"{CONTROL.name}:{written.position}"
    return json_response(written, act.status)


async def write_each(request: Request, topic: Topic, *records: Record) -> Written:
    """Appends each record once the one before it is durable. The `position` is that of the first.

    Errors: `Problem` 413, 503; 422 where the request's Idempotency-Key came with another body.
    """
    if topic is EVENTS and (key := idempotency_key(request)) is not None:
        await state(request).idempotency.keep(caller(request).name, key, fingerprint_of(records))
    receipt = await append(request, topic, records[:1])
    positions = render_positions(receipt.offsets)
    position = positions[0] if positions else None
    for record in records[1:]:
        later = await append(request, topic, [record])
        durable = later.durable if receipt.durable == "broker" else receipt.durable
        receipt = Receipt(durable, {**receipt.offsets, **later.offsets})
        positions = render_positions(receipt.offsets)
    return Written(position=position, positions=positions, durable=receipt.durable)


async def append_valid(
    request: Request,
    topic: Topic,
    records: Sequence[Record],
    rejected: list[Rejection],
    name: str | None,
) -> Accepted:
    """Appends the records that were not rejected. `name`: as for `all_rejected`.

    Errors: `Problem` 413, 503; 422 where there are no records.
    """
    if not records:
        raise all_rejected(rejected, name)
    receipt = await append(request, topic, records)
    return Accepted(
        accepted=len(records),
        rejected=rejected,
        positions=render_positions(receipt.offsets),
        durable=receipt.durable,
    )


def render_positions(offsets: Mapping[int, int]) -> list[str]:
    """Positions as clients see them, by partition."""
    return [str(Position(partition, offset)) for partition, offset in sorted(offsets.items())]


def all_rejected(rejected: list[Rejection], name: str | None) -> Problem:
    """The 422 of a request without a valid record. `name`: of the list of records; None for a single one."""
    under = "" if name is None else f"{name}[{{}}]."
    errors = [(under.format(each.index) + each.field, each.code) for each in rejected]
    return Problem(422, "invalid", "Nothing was accepted.", errors)


def count_rejected(serving: Serving, rejected: list[Rejection]) -> None:
    """Counts rejected events by code."""
    for each in rejected:
        serving.metrics.add("freshet_events_rejected_total", code=each.code)


async def path_and_body(
    request: Request, name: str, *parameters: str
) -> tuple[str, bytes, Serving]:
    """The id that the path has as `name`, the body, and the context of a write. The query string may have
    only `parameters`. Errors: `Problem` 400, 413, 414, 415, `Rejected`."""
    return path_id(request, name), await payload(request, *parameters), state(request)


async def payload(request: Request, *parameters: str, lines: bool = False) -> bytes:
    """The body; the query string may have only `parameters`. `lines`: the route takes NDJSON too.

    Errors: `Problem` 400, 413, 414, 415, `Rejected`.
    """
    check_query(request, *parameters)
    body = await read_body(request, lines=lines)
    state(request).metrics.count_body(body.received)
    return body.content


def event_id(request: Request, serving: Serving) -> str:
    """The name that the request's Idempotency-Key gives, else a new id."""
    key = idempotency_key(request)
    return serving.make_id() if key is None else name_of_key(key)


def fingerprint_of(records: Sequence[Record]) -> bytes:
    """(16,) BLAKE2b of what the records of a request say, without the time of its arrival."""
    bodies: list[dict[str, Any]] = [msgspec.json.decode(record.value) for record in records]
    for body in bodies:
        body.pop("received_at", None)
    return hashlib.blake2b(msgspec.json.encode(bodies), digest_size=16).digest()
