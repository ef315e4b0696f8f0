"""Waits until the fences of partitions pass positions: one look at the store for all who wait.

While anybody waits, one MGET reads the fences of the partitions that are waited for, every few
milliseconds. Nobody waits: nothing is read. Of a position that stays ahead of its fence the broker is asked
whether the log has a record there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final

import msgspec

from infra.backoff import Pauses
from schemas.alphabet import Position
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.topics import EVENTS
from serving.decide.person import StoreDown
from serving.state.log_end import LogEnd

MIN_PAUSE_SECONDS: Final = 0.0025
"""Between two looks while somebody began to wait a moment ago."""
MAX_PAUSE_SECONDS: Final = 0.010
PAUSE_FACTOR: Final = 1.1
"""Looks cost CPU that the fold needs, too: of a wait of 85 ms there are 16, of one of 10 ms there are 3."""
ASK_AFTER_SECONDS: Final = 0.015
"""How long a position is waited for before the broker is asked whether it has that record."""
ASK_AGAIN_SECONDS: Final = 1.0
"""As `ASK_AFTER_SECONDS`, where the broker did not answer; and where its log was longer than that before,
since it may have been made anew."""
QUESTION_PAUSE_SECONDS: Final = 0.25
"""After a question that found every record in the log: a question costs as much CPU as some ten looks, and
under load each write through another process would be asked for."""
FetchValues = Callable[[list[bytes]], Awaitable[list[Any]]]
"""The values of keys, in order. Errors: `StoreDown`."""


class Waited(Enum):
    """Why a wait ended."""

    PASSED = 1
    """A fence was past the position."""
    NO_RECORD = 2
    """The log ends at or before the position, as the broker said after the wait began."""
    TOO_LONG = 3


class _Waiter:
    __slots__ = ("answer", "ask_at", "offset")

    def __init__(self, offset: int, ask_at: float) -> None:
        self.offset, self.ask_at = offset, ask_at
        self.answer: asyncio.Future[Waited] = asyncio.get_running_loop().create_future()

    def end(self, why: Waited) -> None:
        if not self.answer.done():
            self.answer.set_result(why)

    def fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(StoreDown(why))


class FenceWatch:
    """The fences of `people`. `keyspace`: the keys of the live generation. Belongs to one event loop."""

    def __init__(
        self, fetch: FetchValues, keyspace: Callable[[], Keyspace], log_end: LogEnd
    ) -> None:
        self._fetch, self._keyspace, self._log_end = fetch, keyspace, log_end
        self._waiters: dict[int, set[_Waiter]] = {}
        """By partition; none is empty."""
        self._pauses = Pauses(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS, PAUSE_FACTOR)
        self._last_answers: dict[int, int] = {}
        """Partition -> the end offset that was answered last. It delays a question, and ends no wait."""
        self._next_question_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def wait(self, position: Position, seconds: float) -> Waited:
        """Waits for the fence of the position's partition, at most `seconds`. Errors: `StoreDown`."""
        loop = asyncio.get_running_loop()
        existed = position.offset < self._last_answers.get(position.partition, 0)
        ask_at = loop.time() + (ASK_AGAIN_SECONDS if existed else ASK_AFTER_SECONDS)
        waiter = _Waiter(position.offset, ask_at)
        waiters = self._waiters.setdefault(position.partition, set())
        waiters.add(waiter)
        self._pauses.reset()
        if self._looking is None:
            self._looking = loop.create_task(self._look())
        timer = loop.call_later(seconds, waiter.end, Waited.TOO_LONG)
        try:
            return await waiter.answer
        finally:
            timer.cancel()
            waiters.discard(waiter)
            if not waiters and self._waiters.get(position.partition) is waiters:
                del self._waiters[position.partition]

    async def _look(self) -> None:
        try:
            while self._waiters:
                await asyncio.sleep(next(self._pauses))
                if self._waiters:
                    await self._compare()
                    self._ask_where_due()
        finally:
            self._looking = None

    async def _compare(self) -> None:
        """Reads the fences that are waited for, once, and ends the waits for what they are past."""
        partitions, keyspace = [*self._waiters], self._keyspace()
        try:
            values = await self._fetch([keyspace.fence("people", it) for it in partitions])
        except StoreDown as error:
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.fail(str(error))
            return
        for partition, value in zip(partitions, values, strict=True):
            fence = _offset(value)
            for waiter in self._waiters.get(partition, ()):
                if waiter.offset < fence:
                    waiter.end(Waited.PASSED)

    def _ask_where_due(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._asking is not None or now < self._next_question_at:
            return
        if any(it.ask_at <= now for waiters in self._waiters.values() for it in waiters):
            self._asking = loop.create_task(self._ask())

    async def _ask(self) -> None:
        """Asks where the log ends, and ends the waits that began before, for records that it lacks."""
        before = {partition: [*waiters] for partition, waiters in self._waiters.items()}
        try:
            end_offsets = await self._log_end.ask() or {}
        finally:
            self._asking = None
        now, pause = asyncio.get_running_loop().time(), QUESTION_PAUSE_SECONDS
        for partition, waiters in before.items():
            end = end_offsets.get((EVENTS.name, partition))
            if end is not None:
                self._last_answers[partition] = end
            for waiter in waiters:
                waiter.ask_at = now + ASK_AGAIN_SECONDS
                if end is not None and waiter.offset >= end:
                    waiter.end(Waited.NO_RECORD)
                    pause = 0.0
        self._next_question_at = now + pause


def _offset(value: bytes | None) -> float:
    """The offset before which all is folded; infinity where it cannot be read: the person's read says so."""
    try:
        return fences.decode(value).offset if value else 0
    except (ValueError, msgspec.MsgspecError):
        return float("inf")
