"""The write side of the API: events, items, preferences, links. All answer 202.

A route reads the body, lets a pure function make records of it, and waits for the log.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from schemas.alphabet import Position
from schemas.event import EventIn
from schemas.identity import check_id
from schemas.item import ItemIn
from schemas.record import Record
from schemas.reject import Rejected
from schemas.topics import EVENTS, ITEMS
from serving.context import Serving, state
from serving.edge import events as ingest
from serving.edge import items as ingest_items
from serving.edge import people as ingest_people
from serving.edge.events import Ask
from serving.edge.items import ItemPatch
from serving.edge.people import LinkIn, PreferencesIn
from serving.http.body import check_query, path_id, read_body
from serving.http.errors import Problem, json_response
from serving.http.forms import Rejection
from serving.http.guard import demand, guarded_router, needs
from serving.http.openapi import ID, answers, body, merged, parameters
from serving.log.producer import NotDurable, Refused

router: Final = guarded_router()
Durable = Literal["broker", "spool"]


class Written(msgspec.Struct, kw_only=True):
    """`position` is that of the record, opaque, null where the spool has it; `positions` the same as a
    list, as for events."""

    position: str | None
    positions: list[str]
    durable: Durable = "broker"


class Accepted(msgspec.Struct, kw_only=True):
    """`positions`: the highest per partition touched, opaque; none where the spool has the records.
    `durable`: who has what was accepted, the broker, or an fsynced spool that goes to the log later.

    `event_ids`, only where the server named an event: one per event of the request, null where the
    client had named it or it was rejected.
    """

    accepted: int
    rejected: list[Rejection]
    positions: list[str]
    durable: Durable = "broker"
    event_ids: list[str | None] | msgspec.UnsetType = msgspec.UNSET


_KEY: Final = (
    "Idempotency-Key",
    "header",
    ID,
    "With the event's index it names an event that has no event_id, so a retry counts once.",
)
_MODE: Final = (
    "mode",
    "query",
    {"enum": ["live", "import"], "default": "live"},
    "import: history, received_at := occurred_at; needs the scope import.",
)


@router.post(
    "/v1/events",
    status_code=202,
    summary="Say what people did",
    responses=answers(
        202,
        Accepted,
        400,
        401,
        413,
        422,
        503,
        description="The broker or an fsynced spool has them",
    ),
    openapi_extra=merged(
        body(EventIn, ingest.FORM.batch, ndjson=True, description="Up to 1,000 and 1 MiB."),
        parameters(_MODE, _KEY),
    ),
)
@needs("events")
async def post_events(request: Request) -> Response:
    started = time.perf_counter()
    serving = state(request)
    content = await payload(request, "mode")
    done = ingest.ingest(content, _ask(request, serving), serving.people, serving.catalogue.lookup)
    count_rejected(serving, done.rejected)
    if not done.records:
        raise all_rejected(done.rejected, None if done.single else "events")
    receipt = await append(serving, EVENTS.name, done.records)
    metrics = serving.metrics
    metrics.add("freshet_events_accepted_total", len(done.records))
    if done.ignored:
        metrics.add("freshet_events_ignored_fields_total", done.ignored)
    metrics.observe(time.perf_counter() - started)
    return json_response(
        Accepted(
            accepted=len(done.records),
            rejected=done.rejected,
            positions=receipt.positions,
            durable=receipt.durable,
            event_ids=done.made if any(done.made) else msgspec.UNSET,
        ),
        202,
    )


@router.post(
    "/v1/items",
    status_code=202,
    summary="Put items",
    responses=answers(202, Accepted, 400, 401, 413, 422, 503),
    openapi_extra=body(ItemIn, ingest_items.FORM.batch, ndjson=True, description="Up to 1,000."),
)
@needs("items")
async def post_items(request: Request) -> Response:
    serving = state(request)
    content = await payload(request)
    done = ingest_items.put_many(
        content, serving.clock(), serving.settings.partitions, ndjson=is_ndjson(request)
    )
    if not done.records:
        raise all_rejected(done.rejected, None if done.single else "items")
    receipt = await append(serving, ITEMS.name, done.records)
    return json_response(
        Accepted(
            accepted=len(done.records),
            rejected=done.rejected,
            positions=receipt.positions,
            durable=receipt.durable,
        ),
        202,
    )


@router.put(
    "/v1/items/{item_id:id}",
    status_code=202,
    summary="Put an item, whole",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=body(ItemIn),
)
@needs("items")
async def put_item(request: Request) -> Response:
    item_id, content, serving = path_id(request, "item_id"), await payload(request), state(request)
    record = ingest_items.put(content, item_id, serving.clock(), serving.settings.partitions)
    return await written(serving, ITEMS.name, record)


@router.patch(
    "/v1/items/{item_id:id}",
    status_code=202,
    summary="Change some fields of an item",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=body(ItemPatch),
)
@needs("items")
async def patch_item(request: Request) -> Response:
    item_id, content, serving = path_id(request, "item_id"), await payload(request), state(request)
    record = ingest_items.patch(content, item_id, serving.clock(), serving.settings.partitions)
    return await written(serving, ITEMS.name, record)


@router.delete(
    "/v1/items/{item_id:id}",
    status_code=202,
    summary="Delete an item",
    responses=answers(202, Written, 401, 422, 503),
)
@needs("items")
async def delete_item(request: Request) -> Response:
    check_query(request)
    item_id, serving = path_id(request, "item_id"), state(request)
    record = ingest_items.delete(item_id, serving.clock(), serving.settings.partitions)
    return await written(serving, ITEMS.name, record)


@router.put(
    "/v1/users/{user_id:id}/preferences",
    status_code=202,
    summary="Set what a person prefers, whole",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(body(PreferencesIn), parameters(_KEY)),
)
@needs("events")
async def put_preferences(request: Request) -> Response:
    user_id, content, serving = path_id(request, "user_id"), await payload(request), state(request)
    record = ingest_people.preferences(
        content, user_id, _event_id(request, serving), serving.clock(), serving.people
    )
    return await written(serving, EVENTS.name, record)


@router.post(
    "/v1/users/{user_id:id}:link",
    status_code=202,
    summary="Say that an anonymous id was this person",
    description=(
        "`position` is that of the link, in the anonymous id's partition; of `positions` the other one is"
        " in the user's: a read of the user `after` it says `merge_pending` until what the anonymous id"
        " did is theirs. The first of two links of an anonymous id wins."
    ),
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(body(LinkIn), parameters(_KEY)),
)
@needs("events")
async def post_link(request: Request) -> Response:
    user_id, content, serving = path_id(request, "user_id"), await payload(request), state(request)
    link, mark = ingest_people.link(
        content, user_id, _event_id(request, serving), serving.clock(), serving.people
    )
    first = await append(serving, EVENTS.name, [link])
    then = await append(serving, EVENTS.name, [mark])
    offsets = dict(map(Position.parse, first.positions + then.positions))
    answer = Written(
        position=first.positions[0] if first.positions else None,
        positions=listed(offsets),
        durable=first.durable if first.durable == then.durable else "spool",
    )
    return json_response(answer, 202)


class Receipt(NamedTuple):
    """Who has the records, and where they stand in the log where that is known."""

    durable: Durable
    positions: list[str]


async def append(serving: Serving, topic: str, records: Sequence[Record]) -> Receipt:
    """To the broker, or to the spool while it is away. Errors: `Problem` 413, 503."""
    try:
        offsets = await serving.writes.append(topic, records)
    except NotDurable as error:
        raise not_durable(serving, error) from None
    return Receipt("spool", []) if offsets is None else Receipt("broker", listed(offsets))


async def written(serving: Serving, topic: str, record: Record) -> Response:
    durable, positions = await append(serving, topic, [record])
    position = positions[0] if positions else None
    return json_response(Written(position=position, positions=positions, durable=durable), 202)


def listed(offsets: Mapping[int, int]) -> list[str]:
    """Positions as clients see them, in the partitions' order."""
    return [str(Position(partition, offset)) for partition, offset in sorted(offsets.items())]


def not_durable(serving: Serving, error: NotDurable) -> Problem:
    if isinstance(error, Refused):
        return Problem(413, "record_too_large", "The broker does not take a record of this size.")
    serving.metrics.add("freshet_not_durable_total")
    return Problem(
        503,
        "not_durable",
        "Nothing durable has all of it; retry with the same ids.",
        headers={"Retry-After": "1"},
    )


def all_rejected(rejected: list[Rejection], name: str | None) -> Problem:
    """`name`: of the list they came in; None where there was but one."""
    under = "" if name is None else f"{name}[{{}}]."
    errors = [(under.format(why.index) + why.field, why.code) for why in rejected]
    return Problem(422, "invalid", "Nothing was accepted.", errors)


def count_rejected(serving: Serving, rejected: list[Rejection]) -> None:
    for why in rejected:
        serving.metrics.add("freshet_events_rejected_total", code=why.code)


async def payload(request: Request, *parameters: str) -> bytes:
    check_query(request, *parameters)
    content = await read_body(request)
    state(request).metrics.add("freshet_request_bytes_total", len(content))
    return content


def is_ndjson(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-ndjson")


def _ask(request: Request, serving: Serving) -> Ask:
    mode = request.query_params.get("mode", "live")
    if mode == "import":
        demand(request, "import")
    elif mode != "live":
        raise Rejected("mode", "unknown_value")
    return Ask(
        received_at=serving.clock(),
        make_id=serving.make_id,
        ndjson=is_ndjson(request),
        imported=mode == "import",
        idempotency_key=_idempotency_key(request),
    )


def _event_id(request: Request, serving: Serving) -> str:
    return _idempotency_key(request) or serving.make_id()


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else check_id(key, "Idempotency-Key")
