"""`POST /v1/events` of the plain kind, answered in the HTTP protocol (`serving.http.direct`).

It takes a request whose events are all good while the broker answers; anything else is the route's,
`serving.routes.events`. Both say and count the same; tests/integration/edge/test_direct.py holds them equal.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Final

from fastapi import FastAPI

from infra.kafka.produce.outcome import AppendOutcome
from schemas.access.limits import Budget, Exceeded
from schemas.headers import TRACEPARENT, traced, valid_traceparent
from schemas.topics import EVENTS
from serving.access.access import Access
from serving.access.caller import Caller
from serving.context import Serving
from serving.edge.events import Ingested, RequestContext, ingest
from serving.edge.source import source
from serving.http.direct import Respond
from serving.http.errors import ENCODE, as_problem, identified, limit_fields, problem_response
from serving.http.head import Head, admits
from serving.http.media import is_ndjson, is_usual
from serving.log.durability import not_durable
from serving.routes import charges
from serving.routes.accepted import Receipt
from serving.routes.events import PATH, SCOPE, accepted

_JSON: Final = (b"content-type", b"application/json")
_TRACEPARENT: Final = TRACEPARENT.encode()
_UNTRACED: Final = EVENTS.headers


class EventsResponder:
    """`app`: that of the route; its context is there once its lifespan has started."""

    scope = SCOPE

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._access: Access = app.state.access

    @cached_property
    def _serving(self) -> Serving:
        serving: Serving = self._app.state.serving
        return serving

    def admits(self, head: Head) -> Caller | None:
        """Who sends it, if they are admitted, and the body is of a type that clients usually write."""
        if not is_usual(head.headers.get(b"content-type", b"")):
            return None
        return admits(head, SCOPE, self._access)

    def answer(
        self, head: Head, caller: Caller, body: bytes, started: float, respond: Respond
    ) -> bool:
        """Appends the events and answers once they are durable; False where the route has to."""
        start = body[:4]
        if not start.isascii() or b"\0" in start:
            return False  # a byte order mark
        serving, headers = self._serving, head.headers
        try:
            context = RequestContext(
                received_at=serving.clock(),
                make_id=serving.make_id,
                ndjson=is_ndjson(headers.get(b"content-type", b"")),
                source=source(headers, imported=False),
                scale=serving.scale,
                own=serving.people.own(caller, SCOPE),
            )
            ingested = ingest(body, context, serving.people, serving.catalogue.lookup)
        except Exception:  # the route says what is wrong
            return False
        if ingested.rejected or ingested.ignored or ingested.duplicates:
            return False
        wanted = charges.events(caller, len(ingested.records))
        try:
            serving.new_people.check(caller.client, ingested.records)
            budget = serving.leases.take(*wanted)
        except Exceeded:  # the route says so
            return False
        trace = headers.get(_TRACEPARENT)
        record_headers = traced(_UNTRACED, valid_traceparent([trace])) if trace else _UNTRACED
        done = partial(self._respond, head, ingested, len(body), started, budget, respond)
        if serving.writes.submit(EVENTS.name, ingested.records, record_headers, done):
            return True
        serving.leases.give_back(*wanted)  # the route takes it
        return False

    def _respond(
        self,
        head: Head,
        ingested: Ingested,
        received: int,
        started: float,
        budget: Budget | None,
        respond: Respond,
        outcome: AppendOutcome,
    ) -> None:
        """Answers as `Guarded.answer` does, and counts as it and the route do."""
        serving, metrics = self._serving, self._serving.metrics
        identifier = identified(head.headers.get(b"x-request-id", b"").decode("latin-1"))
        try:
            if outcome.error is not None:
                raise not_durable(metrics, outcome.error)
            offsets = outcome.offsets
            receipt = Receipt("spool", {}) if offsets is None else Receipt("broker", offsets)
            content = ENCODE(accepted(serving, ingested, receipt, started))
        except Exception as error:  # a request never ends without an answer
            response = problem_response(as_problem(error), identifier)
            metrics.add("freshet_problems_total", status=str(response.status_code))
            metrics.count_request(PATH, response.status_code, received)
            respond(response.status_code, response.raw_headers, bytes(response.body))
            return
        metrics.count_request(PATH, 202, received)
        length = b"%d" % len(content)
        request_id = (b"x-request-id", identifier.encode())
        respond(
            202,
            ((b"content-length", length), _JSON, *limit_fields(budget), request_id),
            content,
        )
