"""The longest turn of the event loop is noticed, in CPU too where it was work, and is given once."""

from __future__ import annotations

import asyncio
import time

from serving.state.loop_lag import PERIOD_SECONDS, RESTING_SECONDS, LoopLag


def busy(seconds: float) -> None:
    """Takes so much CPU."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_work_and_waiting_are_kept_apart() -> None:
    async def scene() -> None:
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(2 * PERIOD_SECONDS)
        busy(0.05)
        await asyncio.sleep(2 * PERIOD_SECONDS)
        worked = lag.take()
        assert worked.wall >= worked.cpu >= 0.05 - PERIOD_SECONDS
        lag.take()
        time.sleep(0.3)  # as a turn that waits for a disk
        await asyncio.sleep(2 * PERIOD_SECONDS)
        waited = lag.take()
        assert waited.wall >= 0.3 - PERIOD_SECONDS
        assert waited.cpu < 0.15
        assert lag.take() < waited
        lag.stop()

    asyncio.run(scene())


def test_a_loop_without_work_is_sampled_rarely_until_it_works_again() -> None:
    async def scene() -> None:
        lag = LoopLag()
        lag.start()
        async with asyncio.timeout(30):
            while not lag.is_resting:
                await asyncio.sleep(PERIOD_SECONDS)
        began = time.thread_time()
        async with asyncio.timeout(30):
            while lag.is_resting:
                busy(0.002)
                await asyncio.sleep(0)
        # a neighbour takes no CPU of this thread, so the sample comes after a rest's work at most
        assert time.thread_time() - began < 10 * RESTING_SECONDS
        lag.take()
        busy(0.05)
        await asyncio.sleep(2 * PERIOD_SECONDS)
        assert lag.take().cpu >= 0.05 - PERIOD_SECONDS
        lag.stop()

    asyncio.run(scene())
