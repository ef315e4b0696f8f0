"""The read side of the API: recommendations, popular, similar, items, status."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from schemas import item as items
from schemas import keys
from schemas.identity import partition_of
from serving import query, reads, times
from serving import status as standing
from serving.access import demand, guarded_router, needs
from serving.answer import Answer
from serving.body import path_id
from serving.errors import ENCODE, Problem, json_response
from serving.openapi import answers, parameters
from serving.person import STORE_SECONDS
from serving.state import Serving, state

router: Final = guarded_router()

_TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 256}
_DOCUMENTED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "user_id": (_TEXT, "Who it is for; this or anonymous_id."),
    "anonymous_id": (_TEXT, "Who it is for, before they said who they are."),
    "count": ({"type": "integer", "minimum": 1, "maximum": query.MOST_COUNT, "default": 10}, ""),
    "placement": ({**_TEXT, "default": "home"}, "Which recipe."),
    "session_id": (_TEXT, ""),
    "item_id": (_TEXT, "The item in view: what goes with it counts, and it is not shown."),
    "category": (_TEXT, "Only items of this primary category; lifts the category cap."),
    "exclude": ({"type": "array", "items": _TEXT}, "Item ids not to show; repeatable."),
    "filter": (_TEXT, "A named filter of the placement."),
    "cursor": ({"type": "string"}, "Where the page before ended; opaque."),
    "after": ({"type": "string"}, "A position that a write answered: wait until it is included."),
    "max_wait_ms": (
        {"type": "integer", "minimum": 0, "maximum": query.MOST_WAIT_MS, "default": 150},
        "How long `after` waits at most.",
    ),
    "explain": ({"enum": list(query.EXPLAIN), "default": "reason"}, "full: scope explain."),
    "personalized": (
        {"type": "boolean", "default": True},
        "false: nothing of them ranks; what they saw or hid stays away.",
    ),
    "now": ({"type": "string", "format": "date-time"}, "The time to decide for; scope import."),
    "window": ({"enum": ["1h", "24h", "7d"], "default": "24h"}, "A half-life."),
}


def _documented(*names: str) -> dict[str, Any]:
    return parameters(*((name, "query", *_DOCUMENTED[name]) for name in names))


@router.get(
    "/v1/recommendations",
    summary="What to show somebody now",
    openapi_extra=_documented(*query.READERS),
    responses=answers(200, Answer, 401, 422),
)
@needs("read")
async def recommendations(request: Request) -> Response:
    asked = query.recommendations(request.scope["query_string"])
    if asked.now is not None:
        demand(request, "import")
    if asked.explain == "full":
        demand(request, "explain")
    serving = state(request)
    return _respond(serving, await reads.recommend(serving, asked))


@router.get(
    "/v1/popular",
    summary="What is popular, by half-life",
    openapi_extra=_documented(*query.POPULAR),
    responses=answers(200, Answer, 401, 422),
)
@needs("read")
async def popular(request: Request) -> Response:
    asked = query.popular(request.scope["query_string"])
    if asked.now is not None:
        demand(request, "import")
    serving = state(request)
    return _respond(serving, reads.popular(serving, asked))


@router.get(
    "/v1/items/{item_id:id}/similar",
    summary="What goes with an item",
    openapi_extra=_documented(*query.SIMILAR),
    responses=answers(200, Answer, 401, 422),
)
@needs("read")
async def similar(request: Request) -> Response:
    item_id = path_id(request, "item_id")
    asked = query.similar(request.scope["query_string"])
    if asked.now is not None:
        demand(request, "import")
    serving = state(request)
    return _respond(serving, reads.similar(serving, item_id, asked))


@router.get(
    "/v1/items/{item_id:id}",
    summary="An item as it stands, and whether this process has indexed it",
    responses=answers(200, items.Item, 401, 404, 422, 503),
)
@needs("read")
async def item(request: Request) -> Response:
    serving, item_id = state(request), path_id(request, "item_id")
    query.nothing(request.scope["query_string"])
    partition = partition_of(item_id.encode(), serving.settings.partitions)
    try:
        async with asyncio.timeout(STORE_SECONDS):
            value: Any = await serving.redis.hget(keys.items(partition), item_id)
    except (RedisError, OSError, TimeoutError):
        raise Problem(
            503, "store_down", "The store does not answer.", headers={"Retry-After": "1"}
        ) from None
    if value is None:
        raise Problem(404, "unknown_item", "There is no such item.")
    told = msgspec.to_builtins(items.ITEM_DECODER.decode(value))
    for name in ("published_at", "expires_at"):
        if told.get(name) is not None:
            told[name] = times.render(told[name])
    return json_response({**told, "indexed": bool(serving.catalogue.find(item_id))})


@router.get(
    "/v1/status",
    summary="What this process holds, and how far the flows have come",
    responses=answers(200, standing.Status, 401, 422),
)
@needs("ops")
async def status(request: Request) -> Response:
    query.nothing(request.scope["query_string"])
    return json_response(await standing.status(state(request)))


def _respond(serving: Serving, served: reads.Served) -> Response:
    headers = {
        "X-Slate-Id": served.answer.slate_id,
        "Server-Timing": served.watch.header,
        "Cache-Control": "private, no-store",
    }
    serving.slates.add(served.slate)
    return Response(ENCODE(served.answer), 200, headers, "application/json")
