"""Access: every route declares its scope, and a route without one cannot be registered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from schemas.access.limits import Exceeded
from schemas.access.scopes import SCOPES
from serving.access.caller import Caller
from serving.access.oauth import UnknownKey
from serving.http.cors import Origins
from serving.http.details import detail
from serving.http.errors import Problem, as_problem, forbidden, problem_response, request_id
from serving.http.head import OPEN, Head, admit
from serving.http.paths import given, routed_path

_CALLER: Final = "freshet.caller"
_NO_MATCH: Final[tuple[Match, Scope]] = (Match.NONE, {})
Handler = Callable[[Request], Awaitable[Response]]


def needs(scope: str) -> Callable[[Handler], Handler]:
    """Declares the scope of a route. Errors: ValueError for an unknown scope."""
    if scope != OPEN and scope not in SCOPES:
        raise ValueError(f"no scope is named {scope}")

    def declare(handler: Handler) -> Handler:
        handler.__dict__["scope"] = scope
        return handler

    return declare


class Guarded(APIRoute):
    """A documented route whose handler is a plain ``async (Request) -> Response``.

    It checks the scope, converts every exception to a problem and sets X-Request-Id. FastAPI's own handling
    (dependencies, validation, exit stacks) is not used: bodies are read with msgspec.
    """

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        scope = getattr(endpoint, "scope", None)
        if scope is None:
            raise TypeError(f"{path} declares no scope: put @needs(...) on its handler")
        self.scope: str = scope
        # FastAPI would take `-> Response` for a model that validates answers
        super().__init__(path, endpoint, **{**options, "response_model": None})
        self.app = self.answer
        self.taken = frozenset(self.methods or ())
        self._handler = endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the path as it was sent is one of this route. A HEAD is a GET whose body is not sent."""
        path: str | None = scope.get("freshet.path")
        if path is None:
            path = scope["freshet.path"] = routed_path(scope)
        found = self.path_regex.match(path)
        if found is None:
            return _NO_MATCH
        parameters = {name: given(value) for name, value in found.groupdict().items()}
        taken = _method(scope) in self.taken
        matched = {"endpoint": self.endpoint, "route": self, "path_params": parameters}
        return Match.FULL if taken else Match.PARTIAL, matched

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or says which methods the path has. Errors: HTTPException 405."""
        if _method(scope) in self.taken:
            return await self.answer(scope, receive, send)
        routes = _matching(scope)
        allow = {"Allow": ", ".join(_allowed(routes))}
        if scope["method"] != "OPTIONS":
            raise HTTPException(405, headers=allow)
        request = Request(scope, receive, send)
        headers = {**allow, "X-Request-Id": request_id(request), **_preflight(request, routes)}
        return await Response(None, 204, headers)(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            scope[_CALLER] = await admitted(scope, self.scope)
            response = await self._handler(request)
        except Exception as error:  # a route never ends without an answer
            response = problem_response(self.problem(error), request_id(request))
            count_problem(request, response.status_code)
            if isinstance(error, Exceeded):
                request.app.state.serving.metrics.add(
                    "freshet_limited_total", policy=error.policy.name
                )
        count_request(request, self.path_format, response.status_code)
        response.headers["X-Request-Id"] = request_id(request)
        origins: Origins = request.app.state.origins
        response.raw_headers += origins.headers(Head.of(scope).headers.get(b"origin"), self.scope)
        await response(scope, receive, send)

    def problem(self, error: Exception) -> Problem:
        """The problem of an exception, which says what the route takes where a field is wrong."""
        problem = as_problem(error)
        if problem.code == "invalid" and not getattr(error, "takes", ""):
            said = detail(self.openapi_extra or {}, problem.errors, self.param_convertors)
            problem.detail = f"{problem.detail} {said}".strip()
        return problem


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return "GET" if method == "HEAD" else method


def _matching(scope: Scope) -> list[Guarded]:
    """Every route that the path matches."""
    return [
        route
        for route in scope["app"].routes
        if isinstance(route, Guarded) and route.path_regex.match(scope["freshet.path"])
    ]


def _preflight(request: Request, routes: list[Guarded]) -> dict[str, str]:
    headers, origins = Head.of(request.scope).headers, request.app.state.origins
    taken = [(method, route.scope) for route in routes for method in route.taken]
    asked = headers.get(b"access-control-request-method")
    found: dict[str, str] = origins.preflight(headers.get(b"origin"), asked, taken)
    return found


def _allowed(routes: list[Guarded]) -> list[str]:
    """Every method of these routes."""
    methods = {method for route in routes for method in route.taken}
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def count_problem(request: Request, status: int) -> None:
    serving = getattr(request.app.state, "serving", None)
    if serving is not None:
        serving.metrics.add("freshet_problems_total", status=str(status))


def count_request(request: Request, route: str, status: int) -> None:
    """Counts a request, as `Metrics.count_request`."""
    serving = getattr(request.app.state, "serving", None)
    if serving is not None:
        serving.metrics.count_request(route, status)


def guarded_router() -> APIRouter:
    return APIRouter(route_class=Guarded)


async def admitted(scope: Scope, needed: str) -> Caller:
    """As `admit`, after the issuer's keys were fetched anew where the token names one that is not known.

    Errors: `Problem`.
    """
    head, access = Head.of(scope), scope["app"].state.access
    if sum(name == b"authorization" for name, _ in scope["headers"]) > 1:
        raise Problem(400, "invalid_request", "The header Authorization stands there twice.")
    try:
        return admit(head, needed, access)
    except UnknownKey as error:
        await error.keys.refresh()
    try:
        return admit(head, needed, access)
    except UnknownKey as error:  # another one, of which a key came and went meanwhile
        raise Problem(401, "unauthorized", f"A valid access token is needed: {error}.") from None


def caller(request: Request) -> Caller:
    """Who sends a request that passed `admit`."""
    found: Caller = request.scope[_CALLER]
    return found


def has_scope(request: Request, scope: str) -> bool:
    """Whether the caller also has `scope`, beside the route's own."""
    return caller(request).has(scope)


def check_scope(request: Request, scope: str) -> None:
    """Checks a scope that a parameter needs beside the route's own. Errors: `Problem` 403."""
    if not has_scope(request, scope):
        raise forbidden(scope)
