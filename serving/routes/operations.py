"""Operations: health, metrics, and the description of the API."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from infra.telemetry import CONTENT_TYPE
from serving.context import state
from serving.gauges import readiness
from serving.http import docs, openapi
from serving.http.errors import Problem, json_response
from serving.http.guard import OPEN, guarded_router, needs
from serving.http.openapi import answers

router: Final = guarded_router()


class Alive(msgspec.Struct):
    status: str = "alive"


class Ready(msgspec.Struct):
    """By part: redis, broker, and what is kept in process. `spooled`: records acknowledged that still
    wait on this worker's disk for the broker."""

    ready: bool
    parts: dict[str, bool]
    spooled: int


@router.get("/health/live", summary="The process answers", responses=answers(200, Alive))
@needs(OPEN)
async def live(request: Request) -> Response:
    return json_response(Alive())


@router.get(
    "/health/ready",
    summary="The process can serve: its services answered lately and its tables are loaded",
    responses=answers(200, Ready, 503),
)
@needs(OPEN)
async def ready(request: Request) -> Response:
    serving = state(request)
    found = readiness(serving)
    missing = [(name, "not_ready") for name, ready in found.items() if not ready]
    if missing:
        spooled = serving.writes.waiting
        waits = f" {spooled} records wait on disk for the broker." if spooled else ""
        detail = f"Not everything is there yet.{waits}"
        raise Problem(503, "not_ready", detail, missing, {"Retry-After": "1"})
    return json_response(Ready(True, found, serving.writes.waiting))


@router.get("/metrics", summary="Counters in Prometheus's text format")
@needs("ops")
async def metrics(request: Request) -> Response:
    return Response(state(request).metrics.render(), media_type=CONTENT_TYPE)


@router.get("/openapi.json", summary="This description")
@needs("read")
async def description(request: Request) -> Response:
    return json_response(openapi.describe(request.app))


@router.get("/docs", summary="This description, for people")
@needs("read")
async def documents(request: Request) -> Response:
    return Response(docs.page(openapi.describe(request.app)), media_type="text/html")
