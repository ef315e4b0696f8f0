"""How long a connection may take: for a head, a body, reading its answers, and between two requests; and what
comes meanwhile, which waits, counted."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from serving.http import bounds
from serving.http.errors import Problem
from serving.http.refusing import Phase, RefusingProtocol


class TimedProtocol(RefusingProtocol):
    """A connection whose deadlines `accepted` looks at."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._idle_seconds = self.limits.head_seconds
        self._received = 0
        """Bytes of the body."""
        self._unwritten = (0.0, 0)
        """Since when the client does not read, and how much there was to read then."""
        self._closing = False

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
        elif self._phase is Phase.REFUSED:
            limits = self.limits
            if passed > (limits.discard_seconds if self._stopped is None else limits.stop_seconds):
                self.transport.close()

    def _check_body(self, now: float) -> None:
        if self._stopped is not None and not self._answered:
            if now - self._stopped > self.limits.stop_seconds:
                self._refuse(bounds.stopping())
        elif self.flow.read_paused:
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


class HoldingProtocol(TimedProtocol):
    """One request at a time: `_take` gets nothing while an answer is pending."""

    @abstractmethod
    def _take(self, data: bytes) -> None:
        """Takes the next bytes of a request, or of the one after it."""

    def _hold(self, data: bytes) -> None:
        try:
            self.accepted.receive(len(data))
        except Problem:
            self.transport.close()  # no answer may come before the one that is pending
            return
        self._held = self._held + data if self._held else data
        self.flow.pause_reading()

    def _resume_soon(self) -> None:
        if self._held:
            self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        waits = self._phase is Phase.ANSWER or self.flow.write_paused
        if not self._held or waits or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._take(self._take_held())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._resume_soon()
