"""What is recorded in `audit`: each act of administration, and reads of other people's data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from starlette.requests import Request

from infra.kafka.produce.errors import NotDurable
from schemas.access.audit import MAX_REASON, PERSON, AuditKind, AuditRecord, Stage, answered
from schemas.access.scopes import EXP_ADMIN, OPS, PRIVACY_ADMIN, PRIVACY_SELF, TOKENS_WRITE
from schemas.alphabet import Pseudonym
from schemas.reject import Rejected
from serving.access.caller import Caller
from serving.context import Serving, state
from serving.http.errors import Problem, request_id
from serving.http.guard import caller
from serving.log.durability import not_durable
from serving.routes.charges import take_act

REQUEST_REASON: Final = (
    "X-Request-Reason",
    "header",
    {"type": "string"},
    f"Why; its first {MAX_REASON} characters are recorded in the topic audit, with who asks.",
)
"""As Google Cloud's X-Goog-Request-Reason (https://cloud.google.com/apis/docs/system-parameters)."""
ADMINISTRATION: Final = frozenset((EXP_ADMIN, OPS, PRIVACY_ADMIN, PRIVACY_SELF, TOKENS_WRITE))
"""Scopes whose every method but GET is an act of administration."""


@dataclass
class Act:
    """The outcome of an act: the status of its answer, and ``topic:partition:offset`` of its record."""

    status: int = 202
    position: str = ""


class Actor(NamedTuple):
    """Who sends a request, by the token."""

    client: str
    person: str
    token_id: str


@asynccontextmanager
async def administering(request: Request, *targets: str, reason: str = "") -> AsyncIterator[Act]:
    """Records an act of administration before and after it. `targets`: ``kind:id`` each, of people the
    pseudonym. `reason`: "" takes that of the header.

    Errors: `Problem` 503 where nothing keeps the first record, or the store is away, and `Exceeded`: the act
    does not begin.
    """
    serving = state(request)
    await take_act(serving.leases, caller(request))
    requested = _audited(request, "requested", "administration", targets, reason)
    try:
        await serving.audit.keep(requested)
    except NotDurable as error:
        raise not_durable(serving.metrics, error) from None
    act, status = Act(), 500
    try:
        yield act
        status = act.status
    except Problem as problem:
        status = problem.status
        raise
    except Rejected:
        status = 422
        raise
    finally:
        outcome = answered(requested, serving.clock(), status, act.position)
        await serving.audit.keep_or_count(outcome)


def note_read(request: Request, people: Iterable[Pseudonym | None]) -> None:
    """Records that data of `people` is read, but for the caller's own; it does not wait."""
    actor = who(request)
    others = dict.fromkeys(f"{PERSON}:{it}" for it in people if it and it != actor.person)
    if others:
        record = _audited(request, "answered", "access", tuple(others), "", status=200)
        state(request).audit.note(record)


def who(request: Request) -> Actor:
    """The client, the subject's pseudonym and the id of the token of a request that was admitted."""
    found = caller(request)
    return Actor(found.client, _person(state(request), found), found.token_id)


def _person(serving: Serving, caller: Caller) -> str:
    """The pseudonym of whom the token is of: a visitor's for a browser token, "" where it is of a program."""
    try:
        if caller.anonymous_id:
            return serving.people.anonymous(caller.anonymous_id).pseudonym
        # RFC 9068, section 2.2: where no person takes part, the subject is the client
        if caller.subject and caller.subject != caller.client:
            return serving.people.user(caller.subject).pseudonym
    except Rejected:  # no id of a person here
        pass
    return ""


def _audited(
    request: Request,
    stage: Stage,
    kind: AuditKind,
    targets: tuple[str, ...],
    reason: str,
    status: int = 0,
) -> AuditRecord:
    serving: Serving = state(request)
    actor = who(request)
    said = request.headers.get("x-request-reason", "").encode("latin-1").decode(errors="replace")
    return AuditRecord(
        audit_id=serving.make_id(),
        stage=stage,
        kind=kind,
        occurred_at=serving.clock(),
        client=actor.client,
        person=actor.person,
        token_id=actor.token_id,
        method=request.method,
        route=request.scope["route"].path_format,
        targets=targets,
        reason=reason or said[:MAX_REASON],
        status=status,
        request_id=request_id(request),
    )
