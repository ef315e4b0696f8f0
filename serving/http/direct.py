"""Requests of the plain kind, answered in the HTTP protocol: no scope, no walk through FastAPI.

A table has a `Responder` for a method and a target, or a path. It gets a request only where nothing about
that needs a thought: HTTP/1.1, a short body of a given length or a GET without any, headers whose meaning is
the same both ways, each once, and no other answer pending on the connection. What it does not take is
answered the usual way, from the same headers and body, in the same place of the connection's order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.access.caller import Caller
from serving.http.cors import Origins
from serving.http.head import Head
from serving.http.remembered import RememberedHeads

MAX_DIRECT_BODY_BYTES: Final = 64 * 1024
"""A larger body is read by the usual way, which stops reading from the socket in between."""
_MAX_LENGTH_DIGITS: Final = 5
_HARMLESS: Final = frozenset(
    (
        b"host user-agent accept accept-charset accept-encoding accept-language connection keep-alive"
        b" content-type content-length authorization x-request-id traceparent tracestate baggage"
        b" origin referer cookie dnt pragma cache-control priority forwarded via from x-forwarded-for"
        b" x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip x-requested-with"
        b" sec-fetch-site sec-fetch-mode sec-fetch-dest sec-fetch-user sec-gpc sec-ch-ua sec-ch-ua-mobile"
        b" sec-ch-ua-platform"
    ).split()
)
"""Headers that a responder reads as a route does, or that neither reads."""


class Respond(Protocol):
    """Answers a request; to be called once. `headers`: names in lower case."""

    def __call__(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> None: ...


class Responder(Protocol):
    """Answers requests of one method and target, on the event loop. No method raises. `scope`: what it
    needs."""

    scope: str

    def admits(self, head: Head) -> Caller | None:
        """Who sends a request that it may answer, by its head; None: the usual way has it. It is asked before
        the body is read."""

    def answer(
        self, head: Head, caller: Caller, body: bytes, started: float, respond: Respond
    ) -> bool:
        """Whether it calls `respond`, now or later. If not, the request is answered the usual way, so nothing
        of it may have been done or counted. `started`: when the head was read, by ``time.perf_counter``."""


class Responders(NamedTuple):
    """What answers a POST by its target, and a GET by its path, the target without its query. `patterns` are
    of whole paths."""

    posts: Mapping[bytes, Responder]
    gets: Mapping[bytes, Responder]
    patterns: Sequence[tuple[re.Pattern[bytes], Responder]] = ()

    def find(self, method: bytes, target: bytes) -> Responder | None:
        """What answers such a request; None where it goes the usual way."""
        if method == b"POST":
            return self.posts.get(target)
        if method != b"GET" or b"#" in target:  # a fragment, which is nobody's
            return None
        path = target.partition(b"?")[0]
        found = self.gets.get(path)
        if found is None:
            for pattern, responder in self.patterns:
                if pattern.fullmatch(path):
                    return responder
        return found


class DirectProtocol(HttpToolsProtocol):
    """`responders`: what answers; whatever they do not have goes the usual way."""

    responders: Responders = Responders({}, {})
    origins: ClassVar[Origins] = Origins()
    remembered: ClassVar[RememberedHeads] = RememberedHeads()
    cycle: Any
    """Of uvicorn for a request that goes the usual way, an `_Exchange` for another, None before the first."""
    _declined = False
    """The responder has declined the request whose head is read next."""

    def answer_remembered(self, head: Head, body: bytes) -> bool:
        """Whether a responder answers this whole request, as it would had the parser read it. If not, the
        parser has to read it, and no responder is asked again where one has read the body."""
        before, responder = self.cycle, self.responders.find(head.method, head.target)
        if responder is None or not self._is_free():
            return False
        caller = responder.admits(head)
        if caller is None:
            return False
        self.cycle = exchange = _Exchange(self, responder, head, caller)
        exchange.more_body = False
        if responder.answer(head, caller, body, exchange.started, exchange.respond):
            return True
        self.cycle, self._declined = before, True
        return False

    def remember(self, written: bytes, before: Any) -> None:
        """Keeps the bytes of the head that the parser has read just now, if it is plain. `before`: the
        `cycle` until then."""
        exchange = self.cycle
        if type(exchange) is _Exchange and exchange is not before:
            self.remembered.keep(written, exchange.head)

    def on_headers_complete(self) -> None:
        declined, self._declined = self._declined, False
        responder = self.responders.find(self.parser.get_method(), self.url)
        if responder is not None and not declined:
            head = self._plain_head()
            caller = responder.admits(head) if head is not None else None
            if head is not None and caller is not None:
                self.cycle = _Exchange(self, responder, head, caller)
                return None
        return super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        if type(exchange) is _Exchange and exchange.more_body:
            exchange.chunks.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        exchange = self.cycle
        if type(exchange) is not _Exchange or not exchange.more_body:
            return super().on_message_complete()
        chunks, exchange.more_body = exchange.chunks, False
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        head, caller = exchange.head, exchange.caller
        if exchange.responder.answer(head, caller, body, exchange.started, exchange.respond):
            chunks.clear()  # a connection that is kept keeps no body
            return None
        self._replay(exchange)
        return super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange = self.cycle
        if type(exchange) is _Exchange and exchange.more_body:
            self._replay(exchange)  # the usual way counts a request that was cut short
        super().connection_lost(exc)

    def _is_free(self) -> bool:
        """Whether an answer may be written as soon as it is there."""
        before = self.cycle
        return (
            (before is None or before.response_complete)
            and self.limit_concurrency is None
            and not self.flow.write_paused  # whoever does not read has to wait
        )

    def _plain_head(self) -> Head | None:
        """The head of a request that anything may answer, None where something about it needs a thought."""
        headers, method = dict(self.headers), self.parser.get_method()
        if (
            not self._is_free()
            or len(headers) != len(self.headers)  # a name twice
            or not headers.keys() <= _HARMLESS
            or not _is_short(headers.get(b"content-length"), method)
            or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
            or self.parser.get_http_version() != "1.1"
        ):
            return None
        return Head(method, self.url, headers)

    def _replay(self, exchange: _Exchange) -> None:
        """Hands the request, as far as it was received, to the usual way."""
        self.cycle = None
        super().on_headers_complete()
        for chunk in exchange.chunks:
            super().on_body(chunk)
        if not exchange.keep_alive:
            self.cycle.keep_alive = False


def _is_short(length: bytes | None, method: bytes) -> bool:
    """Whether the body is short, or that of a GET is not there, by its Content-Length."""
    if length is None or method == b"GET":
        return length is None and method == b"GET"
    return (
        length.isdigit()
        and len(length) <= _MAX_LENGTH_DIGITS
        and int(length) <= MAX_DIRECT_BODY_BYTES
    )


class _NoEvent:
    """Stands for the event of a cycle: nothing waits for the body of an exchange."""

    def set(self) -> None:
        pass


class _Exchange:
    """A request and its answer, in the place of uvicorn's `RequestResponseCycle`: while its answer is
    pending, the protocol queues the requests behind it."""

    __slots__ = (
        "caller",
        "chunks",
        "disconnected",
        "head",
        "keep_alive",
        "more_body",
        "protocol",
        "responder",
        "response_complete",
        "response_started",
        "started",
        "waiting_for_100_continue",
    )
    message_event: Final = _NoEvent()

    def __init__(
        self, protocol: DirectProtocol, responder: Responder, head: Head, caller: Caller
    ) -> None:
        self.protocol, self.responder = protocol, responder
        self.head, self.caller = head, caller
        self.started = time.perf_counter()
        self.chunks: list[bytes] = []
        self.keep_alive = self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self.waiting_for_100_continue = False

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Writes the answer as uvicorn does, in one piece; drops it where the client has gone."""
        if self.disconnected:
            return
        protocol = self.protocol
        content = [STATUS_LINE[status]]
        cors = protocol.origins.headers(self.head.headers.get(b"origin"), self.responder.scope)
        for name, value in (*protocol.server_state.default_headers, *headers, *cors):
            content += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            content.append(b"connection: close\r\n")
        content += (b"\r\n", body)
        protocol.transport.write(b"".join(content))
        self.response_started = self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
