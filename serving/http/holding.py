"""What comes behind a request that is not answered yet, or to a client that does not read: it waits, counted,
and nothing more is read."""

from __future__ import annotations

from abc import abstractmethod

from serving.http.errors import Problem
from serving.http.refusing import Phase
from serving.http.timed import TimedProtocol


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
