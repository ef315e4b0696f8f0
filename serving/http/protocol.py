"""HTTP/1.1 on a connection: uvicorn's protocol, with a bound on all that comes in.

Its parser takes a head of any size and joins the pieces of a line one by one, keeps pipelined requests in a
list, waits for ever, and answers what it cannot take with a line of text. Here it sees a head when that is
whole, and one request at a time; what is too large, too slow or no request is a problem like any other, and
whoever sends it can read the answer.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar, Final

from schemas.errors import FreshetError
from serving.http import bounds
from serving.http.bounds import MAX_DISCARDED_BYTES, MAX_HEADERS, MAX_LENGTH_DIGITS, MAX_LINE_BYTES
from serving.http.chunks import Chunks
from serving.http.connections import Connections
from serving.http.direct import DirectProtocol
from serving.http.errors import Problem, problem_body
from serving.http.lines import Lines

_HEAD_END: Final = b"\r\n\r\n"
_UPGRADE: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_IGNORED: Final = b"\r\nIgnored:"
_NO_DATA: Final = b""


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()
    """The first byte of a request."""
    HEAD = auto()
    """The rest of a head."""
    BODY = auto()
    """The rest of a body, whether or not the request has been answered."""
    ANSWER = auto()
    """The answer to a request that is complete."""
    REFUSED = auto()
    """The end of what a refused client sends."""


class _Refused(FreshetError):
    """Ends the parsing of a request; the parser reports it as an error of its callback."""


class BoundedProtocol(DirectProtocol):
    """`accepted`: the connections of the process. `instead`: what the problem of a request line that is too
    long says to do."""

    accepted: ClassVar[Connections]
    instead: ClassVar[str] = ""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.limits = self.accepted.limits
        self._phase = Phase.IDLE
        self._since = self.loop.time()
        """When the phase began, as far as the client is to blame for its length."""
        self._idle_seconds = self.limits.head_seconds
        self._answered = True
        """Whether no request waits for its answer."""
        self._refusal: Problem | None = None
        self._head = bytearray()
        """What there is of a head that is incomplete."""
        self._lines: Lines | None = None
        """Its lines."""
        self._remaining = 0
        """Of the body's announced bytes, those that are still to come."""
        self._chunks: Chunks | None = None
        self._received = 0
        """Bytes of the body."""
        self._counted = 0
        """Of these, those that `accepted` counts."""
        self._discarded = 0
        self._held = _NO_DATA
        """What came behind a request that is not answered yet; reading is paused meanwhile."""
        self._unwritten = (0.0, 0)
        """Since when the client does not read, and how much there was to read then."""
        self._closing = False

    # connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        try:
            problem = self.accepted.add(self, self.client[0] if self.client else "")
        except OverflowError:
            return transport.abort()
        if problem is not None:
            self._refuse(problem)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.accepted.remove(self)
        self._release()
        self._take_held()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._answered:
            self.transport.close()  # also while a refused client is read, or half a head has come
        else:
            super().shutdown()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._resume_soon()

    # what comes in

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.REFUSED:
            return self._discard(len(data))
        if self._held or self._phase is Phase.ANSWER or self.flow.write_paused:
            return self._hold(data)
        return self._take(data)

    def _hold(self, data: bytes) -> None:
        try:
            self.accepted.receive(len(data))
        except Problem:
            self.transport.close()  # no answer may come before the one that is pending
            return
        self._held = self._held + data if self._held else data
        self.flow.pause_reading()

    def _take_held(self) -> bytes:
        data, self._held = self._held, _NO_DATA
        self.accepted.release(len(data))
        return data

    def _resume_soon(self) -> None:
        if self._held:
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        waits = self._phase is Phase.ANSWER or self.flow.write_paused
        if not self._held or waits or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._take(self._take_held())

    def _take(self, data: bytes) -> None:
        try:
            while data and not self.transport.is_closing():
                if self._phase is Phase.IDLE:
                    data = self._take_start(data)
                elif self._phase is Phase.HEAD:
                    data = self._take_rest_of_head(data)
                elif self._phase is Phase.BODY:
                    data = (
                        self._take_body(data) if self._chunks is None else self._take_chunks(data)
                    )
                elif self._phase is Phase.ANSWER:
                    return self._hold(data)
                else:
                    return self._discard(len(data))
        except Problem as problem:
            self._refuse(problem)

    def _take_start(self, data: bytes) -> bytes:
        """A head from its first byte on. Returns what follows it."""
        if data[0] in b"\r\n":
            return data.lstrip(b"\r\n")  # RFC 9112, 2.2
        end = data.find(_HEAD_END)
        if 0 <= end <= MAX_LINE_BYTES and data.count(b"\n", 0, end) <= MAX_HEADERS:
            return self._parse_head(data, end + len(_HEAD_END))
        self._phase = Phase.HEAD
        self._since = self.loop.time()
        self._lines = Lines(first=True, instead=self.instead)
        if not data[:1].isupper():
            raise bounds.malformed_request()
        return self._take_rest_of_head(data)

    def _take_rest_of_head(self, data: bytes) -> bytes:
        assert self._lines is not None
        before = len(self._head)
        self._head += data
        end = self._lines.take(data)
        if end < 0:
            return _NO_DATA
        head = bytes(self._head[: before + end])
        self._head = bytearray()
        self._phase = Phase.IDLE
        self._parse_head(head, len(head))
        return data[end:]

    def _parse_head(self, data: bytes, size: int) -> bytes:
        head = data[:size]
        if _UPGRADE.search(head):
            head = _without_upgrade(head)
        self._remaining = self._received = self._discarded = 0
        self._chunks = None
        super().data_received(head)
        return data[size:]

    def _take_body(self, data: bytes) -> bytes:
        remaining = self._remaining
        piece = data if len(data) <= remaining else data[:remaining]
        self._remaining = remaining - len(piece)
        self._count(len(piece), complete=not self._remaining)
        super().data_received(piece)
        return data[remaining:]

    def _take_chunks(self, data: bytes) -> bytes:
        assert self._chunks is not None
        content, used, complete = self._chunks.take(data)
        rest = data[used:]
        if self._answered:
            self._discard(used - len(content))
        self._count(len(content), complete)
        framed = b"%x\r\n%b\r\n" % (len(content), content) if content else _NO_DATA
        super().data_received(framed + b"0\r\n\r\n" if complete else framed)
        if rest and not complete:  # other connections have their turn
            self._hold(rest)
            self._resume_soon()
            return _NO_DATA
        return rest

    def _count(self, size: int, complete: bool) -> None:
        self._received += size
        if self._answered:
            self._discard(size)
        elif self._counted or not complete:
            self.accepted.receive(size)
            self._counted += size

    def _release(self) -> None:
        if self._counted:
            self.accepted.release(self._counted)
            self._counted = 0

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self.transport.close()

    # what the parser finds

    def on_headers_complete(self) -> None:
        try:
            self._frame()
        except Problem as problem:
            self._refusal = problem
            raise _Refused(problem.code) from None
        self._answered = False
        try:
            super().on_headers_complete()
        except BaseException:
            self._answered = True
            raise
        self._phase = Phase.BODY
        if self._remaining or self._chunks is not None:
            self._since = self.loop.time()

    def _frame(self) -> None:
        """How the body ends. Errors: `Problem`. The parser has refused a length beside a coding, or two."""
        headers = dict(self.headers)
        length = headers.get(b"content-length")
        coding = headers.get(b"transfer-encoding")
        if length is not None:
            if len(length) > MAX_LENGTH_DIGITS:
                length = length.strip()
            if len(length) > MAX_LENGTH_DIGITS:
                raise bounds.malformed_length()
            self._remaining = int(length)
        elif coding is not None:
            if coding.strip().lower() != b"chunked":
                raise bounds.unknown_transfer_coding()
            self._chunks = Chunks()
        if self.parser.should_upgrade():  # CONNECT: what follows would be no HTTP
            raise bounds.malformed_request()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._answered:
            self._await_request()
        else:
            self._phase = Phase.ANSWER

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._answered = True
        self._release()
        if self.transport.is_closing():
            return
        if self._phase is Phase.ANSWER:
            self._await_request()
        elif self.expect_100_continue and not self._received:
            # the client may leave out the body that it was not asked for, or not: what follows is unknown
            self._refuse_more()
        if self._held:
            self._resume_soon()
        else:
            self.flow.resume_reading()

    def _await_request(self) -> None:
        self._phase = Phase.IDLE
        self._since = self.loop.time()
        self._idle_seconds = self.limits.keep_alive_seconds

    # refusals

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or bounds.malformed_request())

    def _refuse(self, problem: Problem) -> None:
        """Answers with a problem, unless the request has an answer already, and takes no other request."""
        if self._phase is Phase.REFUSED or self.transport.is_closing():
            return
        in_body = self._phase is Phase.BODY
        in_head = self._phase is Phase.HEAD
        headed = (self._head[:5] == b"HEAD ") if in_head else self.parser.get_method() == b"HEAD"
        if self._abandon() or (in_body and self._answered):
            self.transport.close()
            return
        self.transport.write(_answer(problem, headed))
        self._refuse_more()

    def _refuse_more(self) -> None:
        """Writes no more, and reads what comes, so that the client can read what is written."""
        self._phase = Phase.REFUSED
        self._answered = True
        self._since = self.loop.time()
        self._take_held()
        self._head = bytearray()
        self._release()
        self.transport.write_eof()
        self.flow.resume_reading()

    def _abandon(self) -> bool:
        """Tells who answers the current request that nobody waits for it. Whether the answer has begun."""
        cycle = self.cycle
        if self._answered or cycle is None:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        begun: bool = cycle.response_started
        return begun

    # times

    def check_deadline(self, now: float) -> None:
        """Ends what took too long. `now`: the loop's time, s."""
        passed = now - self._since
        if self.transport.is_closing():
            self._check_closing(now)
        elif self.flow.write_paused:
            self._check_reading(now)
        elif self._phase is Phase.IDLE:
            if passed > self._idle_seconds:
                self.transport.close()
        elif self._phase is Phase.HEAD:
            if passed > self.limits.head_seconds:
                self._refuse(bounds.too_slow("head"))
        elif self._phase is Phase.BODY:
            self._check_body(now)
        elif self._phase is Phase.REFUSED and passed > self.limits.discard_seconds:
            self.transport.close()

    def _check_body(self, now: float) -> None:
        if self.flow.read_paused:
            self._since += self.limits.sweep_seconds
        elif self.expect_100_continue and self.cycle.waiting_for_100_continue:
            self._since = now
        elif now - self._since > self._allowed_seconds(self._received):
            self._refuse(bounds.too_slow("body"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unwritten = (self.loop.time(), self.transport.get_write_buffer_size())

    def _check_reading(self, now: float) -> None:
        since, size = self._unwritten
        read = size - self.transport.get_write_buffer_size()
        if now - since > self._allowed_seconds(read):
            self.transport.abort()

    def _check_closing(self, now: float) -> None:
        """A transport that is closed is there until the client has read what is written."""
        if self._closing:
            return self._check_reading(now)
        self._closing = True
        self._unwritten = (now, self.transport.get_write_buffer_size())
        return None

    def _allowed_seconds(self, size: int) -> float:
        return self.limits.grace_seconds + max(0, size) / self.limits.bytes_per_second


def _without_upgrade(head: bytes) -> bytes:
    """The head, in which a header Upgrade has another name: its parser takes no body after one.

    Clients offer HTTP/2 by it (RFC 7540, 3.2), Java's by default, and a server may ignore it (RFC 9110, 7.8).
    """
    return _UPGRADE.sub(_IGNORED, head)


def _answer(problem: Problem, headed: bool) -> bytes:
    """The whole response, the last one of its connection; without its body for a HEAD."""
    identifier = secrets.token_hex(8)
    body = problem_body(problem, identifier)
    further = "".join(f"{name.lower()}: {value}\r\n" for name, value in problem.headers.items())
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
        "content-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {identifier}\r\n{further}connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if headed else body)
