"""The queue of reads: first come, first served; each turn of the event loop answers some of them.

Reads whose people come with one MGET are ready together. Answered together they would hold up everything
else of the process for their sum; so a turn of the loop runs reads for `SECONDS_PER_PASS`, and gives way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from infra import logs

T = TypeVar("T")
log = logs.paced("freshet.serving.requests")

SECONDS_PER_PASS: Final = 0.005
"""After so long no other read begins in this turn of the loop."""
FIRST_COST_SECONDS: Final = 0.001
"""What a read is taken to cost before any was measured."""
SMOOTHING: Final = 1 / 32
"""Weight of the last read in the cost of one."""
MAX_GROWTH: Final = 4.0
"""A read that cost more than so many times the mean counts as so many: one slow moment is no overload."""


class ReadQueue:
    """Belongs to one event loop. `limit_ms`: with more CPU than that ahead of it a read is shed; 0: never.
    `waiting`: gives the number of reads that the store has not answered, which are ahead of it too.

    `clock` and `cpu_clock` (of this thread) give seconds. The cost of a read is CPU: what neighbours take of
    the machine is not a read's cost.
    """

    def __init__(
        self,
        limit_ms: float,
        waiting: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._limit = limit_ms / 1000
        self._waiting, self._clock, self._cpu_clock = waiting, clock, cpu_clock
        self._works: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._reserved = 0
        self.cost = FIRST_COST_SECONDS
        """CPU seconds of a read, smoothed."""

    def __len__(self) -> int:
        """The reads that were taken and are not answered yet."""
        return len(self._works) + self._reserved + self._waiting()

    @property
    def overloaded(self) -> bool:
        """Whether a new read is to be shed: those ahead of it will take more CPU than the limit."""
        return 0 < self._limit < len(self) * self.cost

    def put(self, work: Callable[[], None]) -> None:
        """Runs `work`, a whole read, on the event loop once those before it have run. It raises nothing."""
        self._works.append(work)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, once it was its turn. Errors: those of `work`."""
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settle() -> None:
            if result.done():  # who asked was cancelled
                return
            try:
                result.set_result(work())
            except Exception as error:
                result.set_exception(error)

        self.put(settle)
        return await result

    @contextmanager
    def reserved(self, reads: int) -> Iterator[Callable[[], None]]:
        """Counts `reads` that are put one after the other as taken. Yields what is called as one is put."""
        remaining = reads
        self._reserved += reads

        def release() -> None:
            nonlocal remaining
            remaining -= 1
            self._reserved -= 1

        try:
            yield release
        finally:
            self._reserved -= remaining

    def _run(self) -> None:
        works, clock = self._works, self._clock
        cpu_before, until, done = self._cpu_clock(), clock() + SECONDS_PER_PASS, 0
        while works:
            try:
                works.popleft()()
            except Exception as error:  # a fault in one must not leave the others without an answer
                log.error("a queued read failed: %s", type(error).__name__)
            done += 1
            if clock() >= until:
                break
        self._measure((self._cpu_clock() - cpu_before) / done, done)
        self._scheduled = bool(works)
        if works:
            asyncio.get_running_loop().call_soon(self._run)

    def _measure(self, seconds: float, reads: int) -> None:
        """Takes in that `reads` cost `seconds` of CPU each."""
        seconds = min(seconds, MAX_GROWTH * self.cost)
        self.cost += (seconds - self.cost) * (1 - (1 - SMOOTHING) ** reads)
