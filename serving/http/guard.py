"""Access: every route declares its scope, and a route without one cannot be registered.

Until there is access control with several keys, one token has every scope (`FRESHET_TOKEN`); without it the
server listens on loopback only and every caller there has every scope.
"""

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

from serving.http.details import detail
from serving.http.errors import Problem, as_problem, problem_response, request_id
from serving.http.head import OPEN, Head, admit
from serving.http.paths import given, routed_path

_NO_MATCH: Final[tuple[Match, Scope]] = (Match.NONE, {})
Handler = Callable[[Request], Awaitable[Response]]

SCOPES: Final = {
    "read": "recommendations, items, slates",
    "explain": "propensities and feature values",
    "events": "send events, preferences and links",
    "import": "send history, set the time of a read",
    "items": "change the catalogue",
    "admin": "change placements, experiments, releases",
    "ops": "metrics and status",
}


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
        allow = {"Allow": ", ".join(_allowed(scope))}
        if scope["method"] != "OPTIONS":
            raise HTTPException(405, headers=allow)
        request = Request(scope, receive, send)
        headers = {**allow, "X-Request-Id": request_id(request)}
        return await Response(None, 204, headers)(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            admit(Head.of(scope), self.scope, request.app.state.settings.token)
            response = await self._handler(request)
        except Exception as error:  # a route never ends without an answer
            response = problem_response(self.problem(error), request_id(request))
            count_problem(request, response.status_code)
        count_request(request, self.path_format, response.status_code)
        response.headers["X-Request-Id"] = request_id(request)
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


def _allowed(scope: Scope) -> list[str]:
    """Every method of every route that the path matches."""
    routes: list[Guarded] = [
        route
        for route in scope["app"].routes
        if isinstance(route, Guarded) and route.path_regex.match(scope["freshet.path"])
    ]
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


def caller(request: Request) -> str:
    """The name of who sends a request that passed `admit`: one, until there are several tokens."""
    return ""


def has_scope(request: Request, scope: str) -> bool:
    """Whether a caller that passed `admit` also has `scope`: the one token has every scope."""
    return scope in SCOPES


def check_scope(request: Request, scope: str) -> None:
    """Checks a scope that a parameter needs beside the route's own. Errors: `Problem` 403."""
    if not has_scope(request, scope):
        raise Problem(403, "forbidden", f"The scope {scope} is needed.")
