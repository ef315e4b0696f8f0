"""Operations: health, metrics, and the description of the API."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from infra import tokens
from infra.metrics import CONTENT_TYPE
from infra.settings import Settings
from schemas.access.scopes import OPS, SCOPES
from serving.access.access import Access
from serving.context import state
from serving.health import health
from serving.http import docs, openapi
from serving.http.errors import Problem, json_response
from serving.http.guard import guarded_router, needs
from serving.http.head import METADATA_PATH, OPEN, Head
from serving.http.openapi import answers, plain
from serving.state.background import Fault

router: Final = guarded_router()
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Alive(msgspec.Struct):
    status: str = "alive"


class ProtectedResource(msgspec.Struct):
    """The metadata of this API for clients of OAuth (RFC 9728)."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[str] = msgspec.field(default_factory=lambda: list(SCOPES))
    bearer_methods_supported: tuple[str, ...] = ("header",)
    resource_name: str = "Freshet"
    resource_documentation: str = ""


class Ready(msgspec.Struct):
    """`parts`: whether Redis, the broker, what is kept in process and each flow work. `degraded`: for those
    that do not, what holds meanwhile; it concerns all instances at once, and they answer. `spooled`: how many
    acknowledged records wait on this worker's disk for the broker."""

    ready: bool
    parts: dict[str, bool]
    degraded: tuple[Fault, ...]
    spooled: int


@router.get("/health/live", summary="The process answers", responses=answers(200, Alive))
@needs(OPEN)
async def live(request: Request) -> Response:
    return json_response(Alive())


@router.get(
    "/health/ready",
    summary="This process can answer, and what of its answers is degraded",
    description=(
        "503: this instance cannot answer as another one may (`errors` names what fails: not loaded yet, a"
        " version that cannot read what is stored about people, nothing durable that takes writes); send it"
        " no requests. 200 with `degraded`: what concerns all instances at once (Redis or the broker away,"
        " a flow that hangs or waits, a release that is not there); they answer, with less."
    ),
    responses=answers(200, Ready, 503),
)
@needs(OPEN)
async def ready(request: Request) -> Response:
    serving = state(request)
    found = health(serving)
    if found.fails:
        detail = " ".join(fault.detail for fault in found.fails + found.degraded)
        errors = [(fault.part, fault.code) for fault in found.fails]
        raise Problem(503, "not_ready", detail, errors, {"Retry-After": "1"})
    return json_response(Ready(True, found.components, found.degraded, serving.writes.waiting))


@router.get(
    METADATA_PATH,
    summary="Where to get a token, and its scopes (RFC 9728)",
    responses=answers(200, ProtectedResource),
)
@needs(OPEN)
async def protected_resource(request: Request) -> Response:
    access: Access = request.app.state.access
    url = access.public_url(Head.of(request.scope).headers)
    issuer = request.app.state.settings.issuer
    return json_response(
        ProtectedResource(
            resource=url,
            authorization_servers=[issuer] if issuer else [],
            resource_documentation=f"{url}/docs",
        )
    )


@router.get(
    "/metrics",
    summary="Counters in Prometheus's text format",
    responses=plain("text/plain"),
)
@needs(OPS)
async def metrics(request: Request) -> Response:
    return Response(state(request).metrics.render(), media_type=CONTENT_TYPE)


@router.get(
    "/openapi.json",
    summary="This description",
    responses=plain("application/json", {"type": "object"}),
)
@needs(OPEN)
async def description(request: Request) -> Response:
    return json_response(openapi.describe(request.app))


@router.get("/docs", summary="This description, for people", responses=plain("text/html"))
@needs(OPEN)
async def documents(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    page = docs.page(
        openapi.describe(request.app),
        open_to_all=settings.auth == "off",
        token_file=_token_file(request, settings),
    )
    return Response(page, 200, docs.HEADERS, media_type="text/html")


def _token_file(request: Request, settings: Settings) -> str:
    """Where the token of this installation lies, for a browser on this machine; "" for anybody else."""
    names = {
        settings.bind,
        request.client.host if request.client else "",
        request.url.hostname or "",
    }
    path = settings.data_dir.absolute() / tokens.TOKEN_FILE
    shown = names <= _LOOPBACK and tokens.is_made_here(settings) and path.exists()
    return str(path) if shown else ""
