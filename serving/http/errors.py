"""Errors as clients see them: `application/problem+json` (RFC 9457), the field but never its value."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from infra import logs
from schemas.access.limits import Budget, Exceeded, Policy
from schemas.reject import Rejected

log = logs.paced("freshet.serving.requests")
RawHeaders = list[tuple[bytes, bytes]]
ENCODE: Final = msgspec.json.Encoder().encode
_REQUEST_ID: Final = re.compile(r"[\w.\-]{1,64}", re.ASCII)


class FieldError(msgspec.Struct):
    """`field`: its path in the request (``events[3].action``, ``body``). `code`: a stable word."""

    field: str
    code: str


class ProblemBody(msgspec.Struct, kw_only=True):
    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldError]
    request_id: str


class Problem(Exception):
    """Ends a request with this problem. `errors`: (field, code) pairs."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str = "",
        errors: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = [FieldError(field, word) for field, word in errors]
        self.headers = dict(headers or {})


def malformed(code: str, detail: str = "The body can't be read.") -> Problem:
    """A 400 for a body that can't be read. `code`: of the error of ``body``."""
    return Problem(400, "malformed", detail, [("body", code)])


def too_large(limit: int) -> Problem:
    """A 413 for a body of more than `limit` bytes, before or after its coding."""
    return Problem(413, "too_large", f"At most {limit} bytes.", [("body", "too_large")])


def forbidden(scope: str) -> Problem:
    """The 403 of a caller who lacks `scope` (RFC 6750, 3.1)."""
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    return Problem(
        403, "forbidden", f"The scope {scope} is needed.", headers={"WWW-Authenticate": challenge}
    )


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(ENCODE(content), status, headers, "application/json")


def problem_response(problem: Problem, identifier: str) -> Response:
    """The response: the problem, its headers and the id of its request, in the body and as X-Request-Id."""
    body = problem_body(problem, identifier)
    response = Response(body, problem.status, problem.headers, "application/problem+json")
    response.headers["X-Request-Id"] = identifier
    return response


def problem_body(problem: Problem, identifier: str) -> bytes:
    """The JSON of a problem. `identifier`: the id of its request."""
    body = ProblemBody(
        type=f"urn:freshet:problem:{problem.code}",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        code=problem.code,
        detail=problem.detail,
        errors=problem.errors,
        request_id=identifier,
    )
    return ENCODE(body)


def as_problem(error: Exception) -> Problem:
    """The problem of any exception; an unexpected exception is logged and becomes a 500."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Exceeded):
        return too_many(error)
    if isinstance(error, Rejected):
        return Problem(422, "invalid", error.takes, [(error.field, error.code)])
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        allow = (error.headers or {}).get("Allow")
        detail = f"This path takes {allow}." if allow else ""
        return Problem(error.status_code, code, detail, headers=error.headers)
    place = _place(error)
    log.error("a route failed: %s at %s", type(error).__name__, place, extra={"pace": place})
    return Problem(500, "internal", "This is a fault of the server; it has been logged.")


def request_id(request: Request) -> str:
    """The id of a request, as `identified` gives it; the same for the whole request."""
    scope = request.scope
    identifier: str | None = scope.get("freshet.request_id")
    if identifier is None:
        identifier = identified(request.headers.get("x-request-id", ""))
        scope["freshet.request_id"] = identifier
    return identifier


def identified(client_id: str) -> str:
    """The client's X-Request-Id where it is valid, else a new id."""
    if client_id and _REQUEST_ID.fullmatch(client_id):
        return client_id
    return f"{next(_numbers()):016x}"


@cache
def _numbers() -> Iterator[int]:
    """The ids that this process gives, from a random one on: a random one each is a system call each. It is
    made by who uses it, since workers are forks of a process that has this module."""
    return count(secrets.randbits(63))


def _place(error: Exception) -> str:
    # the place, not the text: an exception's text may quote the request
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"


def limit_fields(budget: Budget | None) -> RawHeaders:
    """Of an answer: what remains, as the fields RateLimit and RateLimit-Policy
    (draft-ietf-httpapi-ratelimit-headers-10); none where nothing limits it."""
    if budget is None:
        return []
    remaining = b'"%b";r=%d;t=%d' % (budget.policy.name.encode(), budget.remaining, budget.reset)
    return [_policy(budget.policy), (b"ratelimit", remaining)]


@lru_cache(maxsize=64)
def _policy(policy: Policy) -> tuple[bytes, bytes]:
    text = f'"{policy.name}";q={policy.burst};w={policy.window}'
    return b"ratelimit-policy", text.encode()


def too_many(error: Exceeded) -> Problem:
    """The 429 (RFC 6585, 4), with Retry-After where a later request may pass."""
    policy, headers = error.policy, dict[str, str]()
    named = f"{policy.rate:g} a second, {policy.burst} at once"
    for name, value in limit_fields(Budget(policy, 0)):
        headers[name.decode()] = value.decode()
    if error.after is None:
        return Problem(
            429,
            "too_many_at_once",
            f"This request alone is more than the limit {policy.name} allows at once ({policy.burst}): send"
            " it in parts.",
            headers=headers,
        )
    headers["Retry-After"] = str(error.after)
    return Problem(
        429,
        "too_many_requests",
        f"The limit {policy.name} allows {named}: retry after {error.after} s.",
        headers=headers,
    )
