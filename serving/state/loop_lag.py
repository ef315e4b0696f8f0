"""How long the longest turn of the event loop was, sampled: its lag, as a timer feels it.

A timer is due every `PERIOD_SECONDS`. A turn that is under way then delays it, so the delay is what was
missing to the turn's end: every turn longer than the period is noticed, and measured too short by at most a
period. That costs some 5 µs a sample, and nothing in a turn. By the clock it is what requests feel; the CPU
time of the thread bounds what of it was the process's own work, and not a neighbour's.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

PERIOD_SECONDS: Final = 0.005


class Longest(NamedTuple):
    """Seconds of the longest turn: `wall` by the clock, `cpu` of the thread."""

    wall: float
    cpu: float


class LoopLag:
    """Belongs to one event loop, from `start` to `stop`."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._cpu = 0.0
        self._longest = Longest(0.0, 0.0)

    def start(self) -> None:
        self._cpu = time.thread_time()
        self._wait()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def take(self) -> Longest:
        """The longest turn since the last call."""
        found, self._longest = self._longest, Longest(0.0, 0.0)
        return found

    def _wait(self) -> None:
        self._due = time.perf_counter() + PERIOD_SECONDS
        self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._sample)

    def _sample(self) -> None:
        late = time.perf_counter() - self._due
        cpu_before, self._cpu = self._cpu, time.thread_time()
        wall, cpu = self._longest
        self._longest = Longest(max(wall, late), max(cpu, min(late, self._cpu - cpu_before)))
        self._wait()
