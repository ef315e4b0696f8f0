"""HTTP/1.1 on a connection: uvicorn's protocol, with a bound on all that comes in.

Its parser takes a head of any size and joins the pieces of a line one by one, keeps pipelined requests in a
list, waits for ever, and answers what it cannot take with a line of text. Here it sees a head when that is
whole, and one request at a time; what is too large, too slow or no request is a problem like any other, and
whoever sends it can read the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from infra import hosts
from infra.hosts import Hosts
from schemas.errors import FreshetError
from serving.http import bounds
from serving.http.bounds import MAX_EMPTY_BYTES, MAX_HEADERS, MAX_LENGTH_DIGITS, MAX_LINE_BYTES
from serving.http.chunks import Chunks
from serving.http.errors import Problem
from serving.http.lines import Lines
from serving.http.refusing import NO_DATA, LingeringTransport, Phase
from serving.http.timed import HoldingProtocol

_HEAD_END: Final = b"\r\n\r\n"
_UPGRADE: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_IGNORED: Final = b"\r\nIgnored:"
_AUTHORITY: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
"""Of a target in absolute form (RFC 9112, 3.2.2): it goes for the host."""


class _Refused(FreshetError):
    """Ends the parsing of a request; the parser reports it as an error of its callback."""


class BoundedProtocol(HoldingProtocol):
    """`instead`: what the problem of a request line that is too long says to do. `hosts`: those that this
    server answers to."""

    instead: ClassVar[str] = ""
    hosts: ClassVar[Hosts] = Hosts()

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._lines: Lines | None = None
        """The lines of a head that is incomplete."""
        self._remaining = 0
        """Of the body's announced bytes, those that are still to come."""
        self._chunks: Chunks | None = None
        self._keeps = True
        """Whether the connection is kept where the client sends the body that it asked about (Expect)."""
        self._empty = 0
        """Bytes of empty lines before the request."""

    # what comes in

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.REFUSED:
            return self._discard(len(data))
        if self._held or self._phase is Phase.ANSWER or self.flow.write_paused:
            return self._hold(data)
        return self._take(data)

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
            rest = data.lstrip(b"\r\n")
            self._empty += len(data) - len(rest)
            if self._empty > MAX_EMPTY_BYTES:
                raise bounds.malformed_request()
            return rest
        end = data.find(_HEAD_END)
        if 0 <= end <= MAX_LINE_BYTES and data.count(b"\n", 0, end) <= MAX_HEADERS:
            return self._take_head(data, end + len(_HEAD_END))
        self._phase = Phase.HEAD
        self._since = self.loop.time()
        self._lines = Lines(first=True, instead=self.instead)
        if not data[:1].isupper():
            raise bounds.malformed_request()
        return self._take_rest_of_head(data)

    def _take_head(self, data: bytes, size: int) -> bytes:
        """A whole head, and its body where that is there and the same head came before. Returns the rest."""
        head = data[:size]
        known = self.remembered.get(head)
        if known is not None and len(data) - size >= known.length:
            end = size + known.length
            self._received, self._discarded, self._empty = known.length, 0, 0
            self._answered, self._phase = False, Phase.ANSWER
            if self.answer_remembered(known.head, data[size:end]):
                return data[end:]
            self._answered, self._phase = True, Phase.IDLE
        before = self.cycle
        rest = self._parse_head(data, size)
        if known is None:
            self.remember(head, before)
        return rest

    def _take_rest_of_head(self, data: bytes) -> bytes:
        assert self._lines is not None
        before = len(self._head)
        self._head += data
        end = self._lines.take(data)
        if end < 0:
            return NO_DATA
        head = bytes(self._head[: before + end])
        self._head = bytearray()
        self._phase = Phase.IDLE
        self._parse_head(head, len(head))
        return data[end:]

    def _parse_head(self, data: bytes, size: int) -> bytes:
        head = data[:size]
        if _UPGRADE.search(head):
            head = _without_upgrade(head)
        self._remaining = self._received = self._discarded = self._empty = 0
        self._chunks = None
        self._parse(head)
        return data[size:]

    def _parse(self, data: bytes) -> None:
        """As uvicorn's `data_received`, without its line in the log for each client that sends nonsense."""
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self._refuse(self._refusal or bounds.malformed_request())

    def _take_body(self, data: bytes) -> bytes:
        remaining = self._remaining
        piece = data if len(data) <= remaining else data[:remaining]
        self._remaining = remaining - len(piece)
        self._count(len(piece), complete=not self._remaining)
        self._parse(piece)
        return data[remaining:]

    def _take_chunks(self, data: bytes) -> bytes:
        assert self._chunks is not None
        content, used, complete = self._chunks.take(data)
        rest = data[used:]
        if self._answered:
            self._discard(used - len(content))
        self._count(len(content), complete)
        framed = b"%x\r\n%b\r\n" % (len(content), content) if content else NO_DATA
        self._parse(framed + b"0\r\n\r\n" if complete else framed)
        if rest and not complete:  # other connections have their turn
            self._hold(rest)
            self._resume_soon()
            return NO_DATA
        return rest

    def _count(self, size: int, complete: bool) -> None:
        if self.expect_100_continue and not self._received and not self._answered:
            self.cycle.keep_alive = self._keeps and self._stopped is None
        self._received += size
        if self._answered:
            self._discard(size)
        elif self._counted or not complete:
            self.accepted.receive(size)
            self._counted += size

    # what the parser finds

    def on_headers_complete(self) -> None:
        try:
            headers = dict(self.headers)
            self._frame(headers)
            self._check_host(headers)
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
            self._expect_body()

    def _expect_body(self) -> None:
        """The rest of a body is to come, or, where its client waits for a 100, maybe not: what follows an
        answer without that is unknown, so the answer is the last one."""
        cycle = self.cycle
        if isinstance(cycle, RequestResponseCycle):
            cycle.transport = LingeringTransport(self)  # type: ignore[assignment]
            if self.expect_100_continue:
                self._keeps, cycle.keep_alive = cycle.keep_alive, False

    def _frame(self, headers: Mapping[bytes, bytes]) -> None:
        """How the body ends. Errors: `Problem`. The parser has refused a length beside a coding, or two."""
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

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        """Host is there once (RFC 9112, 3.2), and one of `hosts`, as is that of an absolute target; HTTP/1.0
        may leave it out. A head that is remembered has passed. Errors: `Problem` 400, 421."""
        named = headers.get(b"host")
        if named is None and self.parser.get_http_version() != "1.0":
            raise bounds.malformed_host()
        twice = len(headers) < len(self.headers)  # some name
        if twice and sum(name == b"host" for name, _ in self.headers) > 1:
            raise bounds.malformed_host()
        absolute = None if self.url[:1] == b"/" else _AUTHORITY.match(self.url)
        for host in (named, absolute and absolute[1]):
            if host is not None and not self.hosts.takes(host.strip(b" \t")):
                malformed = hosts.split(host.strip(b" \t")) is None
                raise bounds.malformed_host() if malformed else bounds.misdirected()

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
        if self._held:
            self._resume_soon()
        else:
            self.flow.resume_reading()

    def _await_request(self) -> None:
        self._phase = Phase.IDLE
        self._since = self.loop.time()
        self._idle_seconds = self.limits.keep_alive_seconds


def _without_upgrade(head: bytes) -> bytes:
    """The head, in which a header Upgrade has another name: its parser takes no body after one.

    Clients offer HTTP/2 by it (RFC 7540, 3.2), Java's by default, and a server may ignore it (RFC 9110, 7.8).
    """
    return _UPGRADE.sub(_IGNORED, head)
