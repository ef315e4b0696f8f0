"""Reads of the plain kind, answered in the HTTP protocol (`serving.http.direct`).

They take a GET whose query is good, for the person as they are now: one that waits for a position, names the
time, or asks for every detail is the route's, `serving.routes.recommendations`. Both say and count the same;
tests/integration/read/test_direct_reads.py holds them equal.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Final

from fastapi import FastAPI

from schemas.access.limits import Exceeded
from schemas.access.scopes import REC_READ
from schemas.headers import TRACEPARENT, valid_traceparent
from schemas.identity import check_id
from schemas.reject import Rejected
from serving.access.access import Access
from serving.access.caller import Caller
from serving.context import Serving
from serving.decide.person import Blobs, StoreDown
from serving.edge.identity import Identity
from serving.http.direct import Respond, Responder
from serving.http.errors import ENCODE, identified, limit_fields, problem_response
from serving.http.guard import Guarded
from serving.http.head import Head, admits
from serving.read import lists, overload, query, recommend
from serving.read.answer import Answer
from serving.read.query import Query
from serving.read.reply import Reply
from serving.read.resolve import check_own, identify, person_found
from serving.read.watch import Stopwatch
from serving.routes import replies
from serving.routes.charges import take_list
from serving.state.spending import Spending

SCOPE: Final = REC_READ
SIMILAR: Final = re.compile(rb"/v1/items/([A-Za-z0-9_.~-]+)/similar")
"""The path, with an id that nothing encodes."""
_JSON: Final = (b"content-type", b"application/json")
_TRACEPARENT: Final = TRACEPARENT.encode()


Result = Reply | Answer | Exception
"""What a read came to: a reply, the answer to one that was shed, or why there is none."""
Done = Callable[[Result], None]
Found = Blobs | StoreDown | Exceeded


class ReadsResponder:
    """Reads of one route. `app`: that of the route; its context is there once its lifespan has started."""

    scope = SCOPE
    path: str
    """Of the route, as registered."""
    name: str
    """Of the kind of read, in the metrics."""
    parse: Callable[[bytes], Query]

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._access: Access = app.state.access
        self._route = next(
            route
            for route in app.routes
            if isinstance(route, Guarded) and route.path == self.path and "GET" in route.taken
        )
        self._named = self._route.path_format

    @cached_property
    def serving(self) -> Serving:
        serving: Serving = self._app.state.serving
        return serving

    def admits(self, head: Head) -> Caller | None:
        """Who sends it, if they are admitted."""
        return admits(head, SCOPE, self._access)

    def answer(
        self, head: Head, caller: Caller, body: bytes, started: float, respond: Respond
    ) -> bool:
        """Answers once it is the read's place in the queue; False where the route has to."""
        path, _, said = head.target.partition(b"?")
        try:
            parsed = type(self).parse(said)
            check_own(self.serving, caller, parsed)
        except Exception:  # the route says what is wrong
            return False
        if parsed.now is not None or parsed.after is not None or parsed.explain == "full":
            return False
        trace = head.headers.get(_TRACEPARENT)
        if trace:
            parsed.traceparent = valid_traceparent([trace])
        try:
            parsed.spending = self.spend(caller)
        except Exceeded:  # the route says so
            return False
        return self.begin(path, parsed, partial(self._respond, head, parsed, respond))

    def spend(self, caller: Caller) -> Spending | None:
        """What the read takes of the caller's limits, or has taken. Errors: `Exceeded`."""
        return take_list(self.serving.leases, caller)

    @abstractmethod
    def begin(self, path: bytes, parsed: Query, done: Done) -> bool:
        """Whether it calls `done`, once, now or later. If not, nothing was done."""

    def _respond(self, head: Head, parsed: Query, respond: Respond, result: Result) -> None:
        """Answers as `Guarded.answer` does, and counts as it and the route do."""
        metrics = self.serving.metrics
        identifier = identified(head.headers.get(b"x-request-id", b"").decode("latin-1"))
        try:
            if isinstance(result, Reply):
                replies.count(self.serving, self.name, [result])
                headers, content = replies.headers([result]), ENCODE(result.answer)
                if parsed.spending is not None:
                    headers += limit_fields(parsed.spending.budget)
            elif isinstance(result, Answer):
                headers, content = [replies.PRIVATE], ENCODE(result)
            else:
                raise result
        except Exception as error:  # a request never ends without an answer
            response = problem_response(self._route.problem(error), identifier)
            metrics.add("freshet_problems_total", status=str(response.status_code))
            if isinstance(error, Exceeded):
                metrics.add("freshet_limited_total", policy=error.policy.name)
            metrics.count_request(self._named, response.status_code)
            respond(response.status_code, response.raw_headers, bytes(response.body))
            return
        metrics.count_request(self._named, 200)
        length, request_id = b"%d" % len(content), (b"x-request-id", identifier.encode())
        respond(200, (*headers, (b"content-length", length), _JSON, request_id), content)


class RecommendationsResponder(ReadsResponder):
    path, name = "/v1/recommendations", "recommendations"
    parse = staticmethod(query.recommendations)

    def spend(self, caller: Caller) -> Spending | None:
        return self.serving.spendings.of_read(caller)

    def begin(self, path: bytes, parsed: Query, done: Done) -> bool:
        serving = self.serving
        if serving.queue.overloaded:
            done(outcome(partial(overload.shed, serving, parsed)))
            return True
        watch = Stopwatch(serving.timer)
        try:
            identity = identify(serving, parsed)
        except Exception:  # the route says what is wrong
            return False
        found = partial(self._found, parsed, identity, watch, done)
        serving.reader.submit(identity.pseudonym, identity.partition, found, parsed.spending)
        return True

    def _found(
        self, parsed: Query, identity: Identity, watch: Stopwatch, done: Done, blobs: Found
    ) -> None:
        serving = self.serving
        try:
            person_read = person_found(serving, identity, blobs)
        except Exception as error:
            return done(error)
        watch("read")
        read = partial(recommend.answered, serving, parsed, identity, person_read, watch)
        return serving.queue.put(lambda: done(outcome(read)))


class PopularResponder(ReadsResponder):
    path, name = "/v1/popular", "popular"
    parse = staticmethod(query.popular)

    def begin(self, path: bytes, parsed: Query, done: Done) -> bool:
        read = partial(lists.popular, self.serving, parsed)
        self.serving.queue.put(lambda: done(outcome(read)))
        return True


class SimilarResponder(ReadsResponder):
    path, name = "/v1/items/{item_id:id}/similar", "similar"
    parse = staticmethod(query.similar)

    def begin(self, path: bytes, parsed: Query, done: Done) -> bool:
        serving, found = self.serving, SIMILAR.fullmatch(path)
        assert found is not None, "it gets paths of this form alone"
        try:
            item_id = check_id(found[1].decode(), "item_id")
        except Rejected:  # the route says what is wrong
            return False
        if serving.queue.overloaded:
            done(outcome(partial(overload.shed_similar, serving, parsed)))
            return True
        read = partial(lists.similar, serving, item_id, parsed)
        serving.queue.put(lambda: done(outcome(read)))
        return True


def outcome(read: Callable[[], Reply | Answer]) -> Result:
    """What `read` gives, or the exception that it raises."""
    try:
        return read()
    except Exception as error:
        return error


def responders(
    app: FastAPI,
) -> tuple[Mapping[bytes, Responder], Sequence[tuple[re.Pattern[bytes], Responder]]]:
    """What answers reads in front of `app`: by path, and by a pattern of it."""
    gets = {each.path.encode(): each(app) for each in (RecommendationsResponder, PopularResponder)}
    return gets, ((SIMILAR, SimilarResponder(app)),)
