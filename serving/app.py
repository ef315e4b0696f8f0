"""The HTTP application of one serving process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from infra.settings import Settings
from serving import gauges
from serving.access.access import Access
from serving.context import Serving
from serving.http.cors import Origins
from serving.http.errors import as_problem, problem_response, request_id
from serving.routes import (
    events,
    experiments,
    items,
    operations,
    people,
    placements,
    recommendations,
    status,
    tokens,
)
from serving.state.issuer_keys import IssuerKeys

VERSION: Final = "1"
ROUTES: Final = (
    events,
    people,
    placements,
    experiments,
    recommendations,  # before items: an id in a path may hold a slash, "/similar" too
    items,
    status,
    tokens,
    operations,
)


def create(settings: Settings) -> FastAPI:
    """The application. It connects when its lifespan starts; `app.state.serving` is its context then."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Serving.open(settings, [IssuerKeys(app.state.access)]) as serving:
            app.state.serving = serving
            gauges.refresh_before_scrapes(serving)
            with serving.metrics.exposed(settings):
                yield

    app = FastAPI(
        title="Freshet",
        version=VERSION,
        description=(
            "A streaming-first recommendation engine: every click changes the next answer. What GET answers,"
            " HEAD answers without the body; OPTIONS says which methods a path has. In a path, an encoded"
            " slash or colon belongs to an id."
        ),
        lifespan=lifespan,
        # FastAPI's own route declares no scope; ours is in `routes.operations`
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.access = Access.of(settings)
    app.state.origins = Origins(settings.page_origins)
    for module in ROUTES:
        app.router.routes.extend(module.router.routes)
    app.add_exception_handler(HTTPException, not_routed)
    return app


async def not_routed(request: Request, error: Exception) -> Response:
    """The response to a 404 or a 405: the only errors outside of a `Guarded` route."""
    return problem_response(as_problem(error), request_id(request))
