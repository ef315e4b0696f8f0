"""How long the longest turn of the event loop was, sampled: its lag, as a timer feels it.

A timer is due every `PERIOD_SECONDS`. A turn that is under way then delays it, so the delay is what was
missing to the turn's end: every turn longer than the period is noticed, and measured too short by at most a
period. That costs some 5 µs a sample, and nothing in a turn. By the clock it is what requests feel; the CPU
time of the thread bounds what of it was the process's own work, and not a neighbour's.

A loop without work is sampled every `RESTING_SECONDS`: 200 samples a second would be most of what a process
at rest does. So the first turn after a rest may be measured too short by that long.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

PERIOD_SECONDS: Final = 0.005
RESTING_SECONDS: Final = 0.1
_QUIET_SAMPLES: Final = 10
"""So many samples in a row without work begin a rest."""
_WORK_SECONDS: Final = 0.0005
"""CPU of a loop that works, from one sample to the next: more than those of a sample itself, and of a look at
a fence."""


class Longest(NamedTuple):
    """Seconds of the longest turn: `wall` by the clock, `cpu` of the thread."""

    wall: float
    cpu: float


class LoopLag:
    """Belongs to one event loop, from `start` to `stop`."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._cpu = 0.0
        self._quiet = 0
        self._longest = Longest(0.0, 0.0)

    @property
    def is_resting(self) -> bool:
        return self._quiet >= _QUIET_SAMPLES

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
        period = RESTING_SECONDS if self.is_resting else PERIOD_SECONDS
        self._due = time.perf_counter() + period
        self._timer = asyncio.get_running_loop().call_later(period, self._sample)

    def _sample(self) -> None:
        late = time.perf_counter() - self._due
        cpu_before, self._cpu = self._cpu, time.thread_time()
        worked = self._cpu - cpu_before
        wall, cpu = self._longest
        self._longest = Longest(max(wall, late), max(cpu, min(late, worked)))
        self._quiet = 0 if worked >= _WORK_SECONDS else self._quiet + 1
        self._wait()
