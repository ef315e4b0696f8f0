"""Whether this worker's clock agrees with Redis's, asked in the background.

What the edge accepts carries this clock's time. So a worker whose clock is off takes no requests, while
others do. While Redis is away no clock is judged.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from typing import Final

from redis.asyncio import Redis

from infra.store import clock
from schemas.alphabet import Millis
from serving.metrics import Metrics
from serving.state.background import Background, Fault

log = logging.getLogger("freshet.serving")
ANSWER_SECONDS: Final = 2.0
"""A later answer is none."""


class ClockCheck(Background):
    """`now`: this worker's clock, ms."""

    name = "clock"

    def __init__(self, redis: Redis, now: Callable[[], Millis], metrics: Metrics) -> None:
        self._redis, self._now, self._metrics = redis, now, metrics
        self.skew: float | None = None
        """By how many s this clock is ahead of Redis's; None where Redis did not answer."""
        self._was_off = False

    @property
    def ready(self) -> bool:
        return not clock.is_off(self.skew)

    def faults(self) -> Iterator[Fault]:
        if self.skew is not None and not self.ready:
            yield Fault(self.name, "clock_off", f"{clock.sentence(self.skew).capitalize()}.")

    def set_gauges(self) -> None:
        skew = math.nan if self.skew is None else self.skew
        self._metrics.set("freshet_clock_skew_seconds", skew)

    async def start(self) -> None:
        await self.refresh()
        await super().start()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(clock.POLL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Asks once, and logs a change between right and wrong."""
        self.skew = await self._ask()
        if self.skew is None or clock.is_off(self.skew) == self._was_off:
            return
        self._was_off = not self._was_off
        log.warning(
            "%s", clock.sentence(self.skew) if self._was_off else "the clock is right again"
        )

    async def _ask(self) -> float | None:
        before = self._now() / 1000
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await self._redis.time()
            return clock.skew(reply, before, self._now() / 1000)
        except Exception:  # any error counts as no answer, as in `serving.state.probe`
            return None
