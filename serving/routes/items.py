"""Items: put, patch, delete and read them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from schemas import items
from schemas.access.limits import Budget
from schemas.access.scopes import ITEMS_WRITE, REC_READ
from schemas.api.patterns import ADDRESSABLE, ITEM_ID
from schemas.events import Scalar
from schemas.identity import partition_of
from schemas.items import ItemIn
from schemas.record import Record
from schemas.reject import Rejected
from schemas.times import MomentText
from schemas.topics import ITEMS
from serving.context import Serving, state
from serving.edge import items as ingest_items
from serving.edge.items import IngestedItem, ItemPatch
from serving.http.body import is_ndjson, path_id
from serving.http.errors import Problem, json_response, limit_fields
from serving.http.guard import caller, guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.http.parameters import check_query
from serving.read import query
from serving.routes.accepted import (
    Accepted,
    Written,
    append_each,
    append_valid,
    path_and_body,
    payload,
    write_each,
)
from serving.routes.charges import take_items, take_list
from serving.state.people import STORE_TIMEOUT_SECONDS

router: Final = guarded_router()
MAX_DROPPED_LISTED: Final = 1000
"""Attributes that an answer lists: a body of a megabyte may have a hundred thousand that go."""
ShownItem: Final = msgspec.defstruct(
    "ShownItem",
    [
        (
            f.name,
            MomentText | None if f.name in ("published_at", "expires_at") else f.type,
            f.default,
        )
        if f.default is not msgspec.NODEFAULT
        else (f.name, f.type)
        for f in msgspec.structs.fields(items.Item)
        if f.name != "attributes"
    ]
    + [("attributes", dict[str, Scalar], {}), ("indexed", bool, False)],
    kw_only=True,
)
"""An item, with its times as text. `indexed`: this process shows it."""
_EXAMPLE: Final = {"title": "Alien", "category": "horror"}
_ITEM: Final = ("item_id", "path", ITEM_ID, "The item.")
_PUT: Final = (
    "item_id",
    "path",
    {**ITEM_ID, "pattern": ADDRESSABLE},
    "The item; neither `.` nor `..`, which no path can hold.",
)
_CREATE: Final = (
    "create",
    "query",
    {"type": "boolean", "default": False},
    "true: where there is no such item, the fields given make one.",
)


@router.post(
    "/v1/items",
    status_code=202,
    summary="Put items",
    responses=answers(202, Accepted, 400, 401, 413, 422, 503),
    openapi_extra=body(
        ingest_items.ListedItem,
        ingest_items.DOCUMENTED.batch,
        ingest_items.DOCUMENTED.array,
        ndjson=True,
        description="Up to 1,000.",
        example={"item_id": "alien", **_EXAMPLE},
    ),
)
@needs(ITEMS_WRITE)
async def post_items(request: Request) -> Response:
    serving = state(request)
    content = await payload(request, lines=True)
    try:
        ingested = ingest_items.put_many(
            content, serving.clock(), serving.settings.partitions, ndjson=is_ndjson(request)
        )
    except (Problem, Rejected):  # to find out what is wrong is work, too
        _take(request, [])
        raise
    budget = _take(request, ingested.records)
    name = None if ingested.single else "items"
    answer = await append_valid(request, ITEMS, ingested.records, ingested.rejected, name)
    answer.dropped = ingested.dropped[:MAX_DROPPED_LISTED] or UNSET
    return _limited(json_response(answer, 202), budget)


@router.put(
    "/v1/items/{item_id:item}",
    status_code=202,
    summary="Put an item, whole",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(body(ItemIn, example=_EXAMPLE), parameters(_PUT)),
)
@needs(ITEMS_WRITE)
async def put_item(request: Request) -> Response:
    item_id, content, serving = await path_and_body(request, "item_id")
    made = ingest_items.put(content, item_id, serving.clock(), serving.settings.partitions)
    return await _append(request, made)


@router.patch(
    "/v1/items/{item_id:item}",
    status_code=202,
    summary="Change some fields of an item",
    description=(
        "It makes no item: 404 where there is certainly none; else 202, and without an item the change is"
        " dropped and counted (`patch_of_unknown_item` in `not_counted` of /v1/status). `categories` without"
        " `category` derive the primary one again."
    ),
    responses=answers(202, Written, 400, 401, 404, 413, 422, 503),
    openapi_extra=merged(body(ItemPatch, example={"available": False}), parameters(_ITEM, _CREATE)),
)
@needs(ITEMS_WRITE)
async def patch_item(request: Request) -> Response:
    item_id, content, serving = await path_and_body(request, "item_id", "create")
    creates = _creates(request)
    made = ingest_items.patch(
        content, item_id, serving.clock(), serving.settings.partitions, creates=creates
    )
    if not creates and await _is_absent(serving, item_id):
        detail = "There is no such item; PUT makes it, and PATCH with create=true does."
        raise Problem(404, "unknown_item", detail)
    return await _append(request, made)


def _creates(request: Request) -> bool:
    """The parameter `create`. Errors: `Rejected`."""
    said = check_query(request, "create").get("create", "false")
    if said not in ("true", "false"):
        raise Rejected("create", "wrong_type")
    return said == "true"


async def _is_absent(serving: Serving, item_id: str) -> bool:
    """Whether it is certain that there is no such item. A put of it may wait in this process's spool, and a
    broker that is away does not say where its log ends."""
    away = not serving.producer.available.is_set()
    if away or serving.writes.waiting or serving.catalogue.find(item_id):
        return False
    return await serving.absent_items.is_absent(item_id)


async def _append(request: Request, made: IngestedItem) -> Response:
    budget = _take(request, [made.record])
    written = await write_each(request, ITEMS, made.record)
    written.dropped = made.dropped or UNSET
    return _limited(json_response(written, 202), budget)


def _take(request: Request, records: Sequence[Record]) -> Budget | None:
    serving = state(request)
    return take_items(serving.leases, serving.catalogue_names, caller(request), records)


def _limited(response: Response, budget: Budget | None) -> Response:
    response.raw_headers += limit_fields(budget)
    return response


@router.delete(
    "/v1/items/{item_id:item}",
    status_code=202,
    summary="Delete an item",
    responses=answers(202, Written, 401, 422, 503),
)
@needs(ITEMS_WRITE)
async def delete_item(request: Request) -> Response:
    check_query(request)
    item_id, serving = path_id(request, "item_id"), state(request)
    record = ingest_items.delete(item_id, serving.clock(), serving.settings.partitions)
    budget = _take(request, [record])
    return _limited(await append_each(request, ITEMS, record), budget)


@router.get(
    "/v1/items/{item_id:item}",
    summary="An item, and whether this process has indexed it",
    responses=answers(200, ShownItem, 401, 404, 422, 503),
)
@needs(REC_READ)
async def item(request: Request) -> Response:
    serving, item_id = state(request), path_id(request, "item_id")
    query.no_parameters(request.scope["query_string"])
    spent = take_list(serving.leases, caller(request))
    partition = partition_of(item_id.encode(), serving.settings.partitions)
    try:
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            value: Any = await serving.redis.hget(
                serving.settings.keyspace.items(partition), item_id
            )
    except (RedisError, OSError, TimeoutError):
        raise Problem(
            503, "store_down", "The store does not answer; retry.", headers={"Retry-After": "1"}
        ) from None
    if value is None:
        raise Problem(404, "unknown_item", "There is no such item.")
    document = items.document(items.decode_item(value))
    response = json_response({**document, "indexed": bool(serving.catalogue.find(item_id))})
    return _limited(response, spent.budget)
