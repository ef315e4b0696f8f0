"""HTTP/1.1 on a connection: uvicorn's protocol, with a bound on what precedes a body.

Its parser takes a head of any size, and answers what it cannot take with a line of text. Here a request line
or a head that is too large, or what is no request, is a problem like any other, and whoever sends it can
read the answer.
"""

from __future__ import annotations

import re
import secrets
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from schemas.errors import FreshetError
from serving.http.errors import Problem, problem_body
from serving.http.parameters import too_long

MAX_TARGET_BYTES: Final = 65_535
"""Of the path and query of a request line; the parser of URLs takes no longer ones."""
MAX_HEAD_BYTES: Final = 128 * 1024
"""Of a request line and its headers."""
MAX_DISCARDED_BYTES: Final = 16 << 20
"""What is read after a refusal: a connection that is closed before would lose the answer."""
DISCARD_SECONDS: Final = 5.0
_UPGRADE: Final = re.compile(rb"\r\n(?:[Uu]pgrade|UPGRADE):")
_IGNORED: Final = b"\r\nIgnored:"


class _TooLarge(FreshetError):
    """Ends the parsing of a request; the parser reports it as an error of its callback."""


class BoundedProtocol(HttpToolsProtocol):
    """`instead`: what the problem of a request line that is too long says to do."""

    instead = ""
    _head_bytes = 0
    """Received since the request began, while its headers are not complete."""
    _in_head = False
    _refusal: Problem | None = None
    _discarded_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return self._discard(data)
        before: RequestResponseCycle | None = self.cycle
        if before is None or not before.more_body:
            data = _without_upgrade(data)
        self._head_bytes = self._head_bytes + len(data) if self._in_head else len(data)
        super().data_received(data)
        # what the parser has not handed over yet: one header without an end
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and self._refusal is None:
            self._refusal = _headers_too_large()
            self.send_400_response("")
        return None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            what = f"A request line takes a target of at most {MAX_TARGET_BYTES} bytes."
            self._refusal = too_long(what, self.instead)
            raise _TooLarge(self._refusal.detail)

    def on_headers_complete(self) -> None:
        self._in_head = False
        # the chunk that ends the head may have much of the body
        if self._head_bytes > MAX_HEAD_BYTES and self._size() > MAX_HEAD_BYTES:
            self._refusal = _headers_too_large()
            raise _TooLarge(self._refusal.detail)
        super().on_headers_complete()

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def send_400_response(self, msg: str) -> None:
        headed = self.parser.get_method() == b"HEAD"
        before: RequestResponseCycle | None = self.cycle
        if self._refusal is None:
            if before is None or before.response_complete or not before.response_started:
                self.transport.write(_answer(_malformed(), headed))
            return self.transport.close()
        if before is not None and not before.response_complete:
            # pipelined: the answer would be taken for that of the request before
            return self.transport.close()
        self.transport.write(_answer(self._refusal, headed))
        self.transport.write_eof()
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(DISCARD_SECONDS, self.transport.close)
        return None

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > MAX_DISCARDED_BYTES:
            self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """The start of a request, in which a header Upgrade has another name: its parser takes no body after one.

    Clients offer HTTP/2 by it (RFC 7540, 3.2), Java's by default, and a server may ignore it (RFC 9110, 7.8).
    """
    end = data.find(b"\r\n\r\n")
    found = _UPGRADE.search(data, 0, len(data) if end < 0 else end)
    return data if found is None else data[: found.start()] + _IGNORED + data[found.end() :]


def _answer(problem: Problem, headed: bool) -> bytes:
    """The whole response, the last one of its connection; without its body for a HEAD."""
    identifier = secrets.token_hex(8)
    body = problem_body(problem, identifier)
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
        "content-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {identifier}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if headed else body)


def _malformed() -> Problem:
    return Problem(400, "malformed", "This is no request of HTTP/1.1.", [("request", "malformed")])


def _headers_too_large() -> Problem:
    return Problem(
        431,
        "request_header_fields_too_large",
        f"The head of a request takes at most {MAX_HEAD_BYTES} bytes.",
        [("headers", "too_large")],
    )
