"""Reads with `after`: all who wait share one look at the fences; what the log lacks is not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest

from infra.kafka import kafka_client
from infra.kafka.end_offsets import Place
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.alphabet import Position, Pseudonym
from schemas.keys import PLAIN, Keyspace
from schemas.record import Record
from schemas.state import fences
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from serving.decide.person import StoreDown
from serving.log.producer import LogProducer
from serving.state.fences import MIN_PAUSE_SECONDS
from serving.state.generation import Generation
from serving.state.log_end import LogEnd
from serving.state.people import PersonReader, TimedRead
from tests.chaos.proxy import HOST, Proxies

RECORDS = 10
"""In each partition of the log; none is folded at first."""
PARTITIONS = 4
LONG_MS = 10_000
WHO = Pseudonym("0" * 32)


class Reading(NamedTuple):
    """One process that reads, and the store beside it."""

    reader: PersonReader
    generation: Generation
    client: Client
    log: LogProducer

    async def after(self, partition: int, offset: int, max_wait_ms: int = LONG_MS) -> TimedRead:
        return await self.reader.read_after(WHO, Position(partition, offset), max_wait_ms)

    async def fold(
        self, offset: int, keyspace: Keyspace = PLAIN, partitions: Sequence[int] = range(PARTITIONS)
    ) -> None:
        """Moves the fences of `partitions`."""
        value = fences.encode(Fence("topic", PARTITIONS, offset, 0, 1))
        for partition in partitions:
            await self.client.set(keyspace.fence("people", partition), value)

    async def append(self, partition: int) -> int:
        """Appends a record. The offset behind it."""
        found = await self.log.append(EVENTS.name, [Record(b"k", partition, b"{}")])
        return found[partition] + 1

    async def looks(self) -> int:
        """How many commands MGET the store has had."""
        found = await self.client.info("commandstats")
        return int(found.get("cmdstat_mget", {"calls": 0})["calls"])

    async def until_looked(self, times: int) -> None:
        end = await self.looks() + times
        while await self.looks() < end:
            await asyncio.sleep(0)


@pytest.fixture(scope="module")
def filled(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(
        kafka_bootstrap=broker, redis_url=redis_url, data_dir=tmp_path_factory.mktemp("after")
    )
    kafka_client.ensure_topics(settings)

    async def fill(it: Reading) -> None:
        for partition in range(PARTITIONS):
            await it.log.append(EVENTS.name, [Record(b"k", partition, b"{}")] * RECORDS)

    run(settings, fill)
    return settings


@pytest.fixture(autouse=True)
def _nothing_is_folded(filled: Settings) -> None:
    with redis_client.connect(filled) as client:
        client.flushall()


@asynccontextmanager
async def reading(settings: Settings, redis_url: str = "") -> AsyncIterator[Reading]:
    """`redis_url`: the store as the reader reaches it, where that is not as the test does."""
    client = redis_client.connect_async(settings)
    through = redis_client.connect_async(
        msgspec.structs.replace(settings, redis_url=redis_url or settings.redis_url)
    )
    generation, log_end = Generation(through, PLAIN), LogEnd(settings, (EVENTS.name,))
    log = await LogProducer.open(settings)
    try:
        yield Reading(PersonReader(through, generation, log_end), generation, client, log)
    finally:
        await log.close()
        await log_end.close()
        await through.aclose()
        await client.aclose()


def run(settings: Settings, test: Callable[[Reading], Awaitable[Any]], **options: str) -> Any:
    async def main() -> Any:
        async with reading(settings, **options) as it:
            return await test(it)

    return asyncio.run(main())


def test_two_hundred_who_wait_cost_one_command_a_look(filled: Settings) -> None:
    async def test(it: Reading) -> None:
        loop = asyncio.get_running_loop()
        before, start = await it.looks(), loop.time()
        waits = [asyncio.create_task(it.after(n % PARTITIONS, n % RECORDS)) for n in range(200)]
        await it.until_looked(20)
        assert not any(wait.done() for wait in waits)
        await it.fold(RECORDS)
        found = await asyncio.gather(*waits)
        assert not any(read.stale for read in found)
        looks = (loop.time() - start) / MIN_PAUSE_SECONDS
        # two reads of all people beside: the first, and the one after the fold, of four partitions
        assert await it.looks() - before <= looks + 1 + PARTITIONS
        counted = await it.looks()
        await it.client.ping()
        assert (await it.after(0, 0)).waited_ms == 0
        assert await it.looks() == counted + 1

    run(filled, test)


def test_who_disconnects_leaves_no_trace(filled: Settings) -> None:
    async def test(it: Reading) -> None:
        waits = [asyncio.create_task(it.after(n % PARTITIONS, n % RECORDS)) for n in range(50)]
        await it.until_looked(3)
        for wait in waits:
            wait.cancel()
        assert {type(end) for end in await asyncio.gather(*waits, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        watch = it.reader._fences
        assert not watch._waiters
        while watch._looking is not None:
            await asyncio.sleep(0)
        looks = await it.looks()
        assert (await it.after(0, 0, 0)).stale
        assert await it.looks() == looks + 1

    run(filled, test)


def test_a_wait_ends_when_its_time_is_over(filled: Settings) -> None:
    async def test(it: Reading) -> None:
        await it.fold(3)
        reads = [it.after(1, 2, 200), it.after(1, 3, 200), it.after(1, 3, 0), it.after(2, 9, 60)]
        found = await asyncio.gather(*reads)
        assert [read.stale for read in found] == [False, True, True, True]
        assert [read.waited_ms for read in found][::2] == [0, 0]
        assert found[1].waited_ms >= 200
        assert found[3].waited_ms >= 60
        assert found[1].person.fence is not None

    run(filled, test)


def test_who_was_woken_by_the_generation_before_a_swap_waits_on(filled: Settings) -> None:
    """The looks see one generation, in which the fence is past, and the reads are of the next."""

    async def test(it: Reading) -> None:
        following = PLAIN.in_generation(1)
        it.reader._generation = Generation(it.client, following)
        await it.fold(RECORDS)
        await it.fold(5, following)
        wait = asyncio.create_task(it.after(1, 5))
        await it.until_looked(7)
        assert not wait.done()
        await it.fold(6, following)
        found = await wait
        assert not found.stale
        assert found.person.fence is not None
        assert found.person.fence.offset == 6

    run(filled, test)


def test_who_waits_while_a_generation_goes_live_sees_its_fence(filled: Settings) -> None:
    async def test(it: Reading) -> None:
        waits = [asyncio.create_task(it.after(p, 7)) for p in range(PARTITIONS)]
        await it.until_looked(5)
        await it.fold(8, PLAIN.in_generation(2))
        await it.until_looked(5)
        assert not any(wait.done() for wait in waits)
        await it.client.set(PLAIN.live(), 2)
        await it.generation._refresh()
        assert not any(read.stale for read in await asyncio.gather(*waits))

    run(filled, test)


def test_a_store_that_goes_away_ends_the_waits(filled: Settings) -> None:
    front = services.free_port()
    proxies = Proxies({"redis": (front, services.redis_ports(filled.redis_url)[0])})

    async def test(it: Reading) -> None:
        waits = [asyncio.create_task(it.after(p, 7)) for p in range(PARTITIONS)]
        await it.until_looked(3)
        await asyncio.to_thread(proxies.adjust, "redis", is_open=False, cut=True)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(it) for it in outcomes} == {StoreDown}
        assert not it.reader._fences._waiters

    try:
        run(filled, test, redis_url=f"redis://{HOST}:{front}/0")
    finally:
        proxies.close()


def test_a_record_that_the_log_does_not_have_is_not_waited_for(filled: Settings) -> None:
    async def test(it: Reading) -> None:
        end = [await it.append(p) for p in range(PARTITIONS)]
        beyond = [it.after(p, offset) for p in range(PARTITIONS) for offset in (end[p], 10**17)]
        found = await asyncio.gather(*beyond)
        assert all(read.stale for read in found)
        assert all(read.waited_ms < LONG_MS for read in found)
        # the last record is there, and not folded
        assert (await it.after(1, end[1] - 1, 100)).waited_ms >= 100

    run(filled, test)


def test_no_end_that_was_answered_before_ends_a_wait(filled: Settings) -> None:
    """Each record lies at the end that the broker answered a moment before it was acknowledged."""

    async def test(it: Reading) -> None:
        watch, end = it.reader._fences, await it.append(0)
        for _ in range(3):
            assert (await it.after(0, end)).stale
            end = await it.append(0)
            wait = asyncio.create_task(it.after(0, end - 1))
            while watch._asking is None:
                await asyncio.sleep(0)
            await watch._asking
            await it.until_looked(1)
            assert not wait.done()
            await it.fold(end, partitions=[0])
            assert not (await wait).stale

    run(filled, test)


class _HeldAnswers(LogEnd):
    """Gives each answer once `gate` is set."""

    gate: asyncio.Event

    async def ask(self) -> Mapping[Place, int] | None:
        found = await super().ask()
        await self.gate.wait()
        return found


def test_an_answer_ends_no_wait_that_began_after_its_question(filled: Settings) -> None:
    async def test(it: Reading) -> None:
        watch, end = it.reader._fences, await it.append(0)
        watch._log_end = log_end = _HeldAnswers(filled, (EVENTS.name,))
        log_end.gate = asyncio.Event()
        beyond = asyncio.create_task(it.after(0, end))
        while log_end._asked is None or not log_end._asked.done():
            await asyncio.sleep(0)
        assert await it.append(0) == end + 1
        written = asyncio.create_task(it.after(0, end))
        await it.until_looked(2)
        log_end.gate.set()
        assert (await beyond).stale
        assert not written.done()
        await it.fold(end + 1, partitions=[0])
        assert not (await written).stale
        await log_end.close()

    run(filled, test)


def test_who_asks_while_the_broker_is_away_waits(filled: Settings) -> None:
    async def main() -> TimedRead:
        away = msgspec.structs.replace(filled, kafka_bootstrap=f"{HOST}:{services.free_port()}")
        client = redis_client.connect_async(filled)
        log_end = LogEnd(away, (EVENTS.name,))
        reader = PersonReader(client, Generation(client, PLAIN), log_end)
        found = await reader.read_after(WHO, Position(0, 10**9), 100)
        await log_end.close()
        await client.aclose()
        return found

    found = asyncio.run(main())
    assert found.stale
    assert found.waited_ms >= 100
