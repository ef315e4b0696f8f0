"""Items: put, patch, delete and read them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from schemas import items, times
from schemas.identity import partition_of
from schemas.items import ItemIn
from schemas.topics import ITEMS
from serving.context import state
from serving.edge import items as ingest_items
from serving.edge.items import ItemPatch
from serving.http.body import check_query, is_ndjson, path_id
from serving.http.errors import Problem, json_response
from serving.http.guard import guarded_router, needs
from serving.http.openapi import answers, body
from serving.read import query
from serving.routes.accepted import (
    Accepted,
    Written,
    append_each,
    append_valid,
    path_and_body,
    payload,
)
from serving.state.people import STORE_TIMEOUT_SECONDS

router: Final = guarded_router()


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
    ingested = ingest_items.put_many(
        content, serving.clock(), serving.settings.partitions, ndjson=is_ndjson(request)
    )
    name = None if ingested.single else "items"
    return json_response(
        await append_valid(request, ITEMS, ingested.records, ingested.rejected, name), 202
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
    item_id, content, serving = await path_and_body(request, "item_id")
    record = ingest_items.put(content, item_id, serving.clock(), serving.settings.partitions)
    return await append_each(request, ITEMS, record)


@router.patch(
    "/v1/items/{item_id:id}",
    status_code=202,
    summary="Change some fields of an item",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=body(ItemPatch),
)
@needs("items")
async def patch_item(request: Request) -> Response:
    item_id, content, serving = await path_and_body(request, "item_id")
    record = ingest_items.patch(content, item_id, serving.clock(), serving.settings.partitions)
    return await append_each(request, ITEMS, record)


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
    return await append_each(request, ITEMS, record)


@router.get(
    "/v1/items/{item_id:id}",
    summary="An item, and whether this process has indexed it",
    responses=answers(200, items.Item, 401, 404, 422, 503),
)
@needs("read")
async def item(request: Request) -> Response:
    serving, item_id = state(request), path_id(request, "item_id")
    query.no_parameters(request.scope["query_string"])
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
    document = msgspec.to_builtins(items.ITEM_DECODER.decode(value))
    for name in ("published_at", "expires_at"):
        if document.get(name) is not None:
            document[name] = times.render(document[name])
    return json_response({**document, "indexed": bool(serving.catalogue.find(item_id))})
