"""The queue of reads: first come first served, a bounded piece of it in a turn of the loop; what is shed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from serving.state.queue import FIRST_COST_SECONDS, MAX_GROWTH, SECONDS_PER_PASS, ReadQueue


class Time:
    """A clock that work moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(limit_ms: float = 50.0, waiting: Callable[[], int] = lambda: 0) -> tuple[ReadQueue, Time]:
    clock = Time()
    return ReadQueue(limit_ms, waiting, clock, clock), clock


async def passes(queue: ReadQueue) -> int:
    """Waits until the queue is empty. How many turns of the loop that took."""
    count = 0
    while len(queue):
        await asyncio.sleep(0)
        count += 1
    return count


def test_reads_run_in_their_order_and_a_pass_ends_after_five_milliseconds() -> None:
    async def scene() -> None:
        queue, clock = made()
        order: list[int] = []
        at: list[int] = []
        count = 0

        def work(n: int) -> None:
            clock.now += 0.002
            order.append(n)
            at.append(count)

        for n in range(10):
            queue.put(lambda n=n: work(n))  # type: ignore[misc]
        while len(queue):
            await asyncio.sleep(0)
            count += 1
        assert order == list(range(10))
        in_a_pass = [at.count(each) for each in sorted({*at})]
        assert in_a_pass == [3, 3, 3, 1], (
            "the third begins before 5 ms are over, the fourth does not"
        )

    asyncio.run(scene())


def test_other_work_runs_between_two_passes() -> None:
    async def scene() -> None:
        queue, clock = made()
        seen: list[str] = []

        def work() -> None:
            clock.now += 2 * SECONDS_PER_PASS
            seen.append("read")

        async def other() -> None:
            for _ in range(3):
                seen.append("other")
                await asyncio.sleep(0)

        for _ in range(3):
            queue.put(work)
        await asyncio.gather(other(), passes(queue))
        assert all(before != after for before, after in pairwise(seen)), seen

    asyncio.run(scene())


def test_a_result_an_error_and_who_is_gone() -> None:
    async def scene() -> None:
        queue, _ = made()
        ran: list[int] = []
        gone = asyncio.ensure_future(queue.run(lambda: ran.append(1)))
        await asyncio.sleep(0)
        gone.cancel()
        assert await queue.run(lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await queue.run(lambda: 1 // 0)
        assert ran == [], "nobody waits for it"
        assert len(queue) == 0

    asyncio.run(scene())


def test_a_work_that_fails_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        queue, _ = made()
        ran: list[int] = []
        queue.put(lambda: ran.append(1 // 0))
        queue.put(lambda: ran.append(2))
        await passes(queue)
        assert ran == [2]

    asyncio.run(scene())
    assert "ZeroDivisionError" in caplog.text


def test_a_flood_is_cut_where_its_cpu_passes_the_limit() -> None:
    """Ten reads come in each turn, and a turn does one: who is taken waits for a bounded number of turns."""

    async def scene() -> None:
        queue, clock = made(limit_ms=50.0)
        waits: list[int] = []
        count = shed = 0

        def work(came: int) -> None:
            clock.now += SECONDS_PER_PASS
            waits.append(count - came)

        for _ in range(500):
            for _ in range(10):
                if queue.overloaded:
                    shed += 1
                else:
                    queue.put(lambda came=count: work(came))  # type: ignore[misc]
            await asyncio.sleep(0)
            count += 1
        settled = waits[200:]
        assert shed > 4000
        # 50 ms are ten reads of 5 ms: one turn each, and the one that found ten before it
        assert max(settled) <= 12
        assert len(waits) > 450, "what can be done is done"

    asyncio.run(scene())


def test_without_a_limit_nothing_is_shed_and_reads_at_the_store_and_rows_count() -> None:
    async def scene() -> None:
        held = 0
        queue, _ = made(50.0, lambda: held)
        free, _ = made(0.0, lambda: 10**6)
        assert not free.overloaded
        assert not queue.overloaded
        held = 51
        assert queue.overloaded
        held = 0
        with queue.reserved(51) as release:
            assert (len(queue), queue.overloaded) == (51, True)
            release()
            assert (len(queue), queue.overloaded) == (50, False)
        assert len(queue) == 0

    asyncio.run(scene())


def test_one_slow_moment_is_no_overload_and_many_are() -> None:
    async def scene() -> None:
        queue, clock = made()

        def slow() -> None:
            clock.now += 1.0

        queue.put(slow)
        await passes(queue)
        assert queue.cost < FIRST_COST_SECONDS * (1 + MAX_GROWTH / 32)
        for _ in range(200):
            queue.put(slow)
            await passes(queue)
        assert queue.cost > 0.9

    asyncio.run(scene())
