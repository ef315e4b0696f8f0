"""How a connection refuses: it answers with a problem, and reads on for a while, so that the client can."""

from __future__ import annotations

import secrets
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar, Final

from serving.http.bounds import MAX_DISCARDED_BYTES
from serving.http.connections import Connections
from serving.http.direct import DirectProtocol
from serving.http.errors import Problem, problem_body

NO_DATA: Final = b""


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


class LingeringTransport:
    """What an answer is written to while its request's body is still to come: an answer that ends its
    connection could be lost if nothing read that body."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: RefusingProtocol) -> None:
        self._protocol = protocol
        self.write, self.is_closing = protocol.transport.write, protocol.transport.is_closing

    def close(self) -> None:
        self._protocol.close_after_answer()


class RefusingProtocol(DirectProtocol):
    """`accepted`: the connections of the process."""

    accepted: ClassVar[Connections]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.limits = self.accepted.limits
        self._phase = Phase.IDLE
        self._since = self.loop.time()
        """When the phase began, as far as the client is to blame for its length."""
        self._answered = True
        """Whether no request waits for its answer."""
        self._stopped: float | None = None
        """Since when the process stops."""
        self._refusal: Problem | None = None
        """Why the parser was ended."""
        self._head = bytearray()
        """What there is of a head that is incomplete."""
        self._counted = 0
        """Of the body's bytes, those that `accepted` counts."""
        self._discarded = 0
        self._held = NO_DATA
        """What came behind a request that is not answered yet; reading is paused meanwhile."""

    @staticmethod
    def count_refusal(status: int) -> None:
        """Gets the status of each problem that no route answers with."""

    def shutdown(self) -> None:
        if self._answered:
            self.transport.close()  # also while a refused client is read, or half a head has come
        else:
            self._stopped = self.loop.time()
            super().shutdown()

    def close_after_answer(self) -> None:
        """Ends the connection, as one of `LingeringTransport`."""
        if self._phase is Phase.BODY and self.cycle.response_complete:
            self._refuse_more()
        else:
            self.transport.close()

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
        self.count_refusal(problem.status)
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
        cycle.waiting_for_100_continue = False  # nothing may be written any more
        cycle.message_event.set()
        begun: bool = cycle.response_started
        return begun

    def _take_held(self) -> bytes:
        data, self._held = self._held, NO_DATA
        self.accepted.release(len(data))
        return data

    def _release(self) -> None:
        if self._counted:
            self.accepted.release(self._counted)
            self._counted = 0

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self.transport.close()


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
