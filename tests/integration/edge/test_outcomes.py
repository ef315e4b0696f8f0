"""What becomes of records that were submitted without waiting: by the broker, by the spool, or refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from kafka.protocol.metadata import ApiVersionsRequest

from infra.kafka.produce.errors import NotDurable, RecordRefused
from infra.kafka.produce.outcome import SPOOLED, AppendOutcome
from infra.settings import Settings
from schemas.record import Record
from schemas.topics import EVENTS, ITEMS
from serving.log import refused
from serving.log.producer import LogProducer
from serving.log.writes import Writes
from serving.metrics import Metrics
from tests.integration.edge.test_append import limit_batches, logged, record
from tests.support.outage import Broker
from tests.support.scripted_broker import Exchange, ScriptedBroker
from tests.support.writers import until

HEADERS = (("a", b"1"),)
SECONDS = 60.0


class Submitted:
    """Numbered records, one a submit, and the outcome of each in the order in which it came."""

    def __init__(self, producer: LogProducer, writes: Writes) -> None:
        self.producer, self.writes = producer, writes
        self.outcomes: dict[int, AppendOutcome] = {}
        self._changed = asyncio.Event()

    def submit(self, number: int, size: int = 10, partition: int = 0) -> None:
        records = [record(number, partition, size)]
        done = partial(self._done, number)
        assert self.writes.submit(EVENTS.name, records, HEADERS, done)
        assert number not in self.outcomes, "never while it is submitted"

    async def append(self, number: int) -> None:
        found = await self.writes.append(EVENTS.name, [record(number, 0, 10)], HEADERS)
        self._done(number, AppendOutcome(found))

    async def come(self, count: int) -> None:
        """Returns once there are so many outcomes."""
        async with asyncio.timeout(SECONDS):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()

    async def drained(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.writes._is_drained.wait()

    def _done(self, number: int, outcome: AppendOutcome) -> None:
        assert number not in self.outcomes, "once"
        self.outcomes[number] = outcome
        self._changed.set()


@asynccontextmanager
async def submitting(settings: Settings) -> AsyncIterator[Submitted]:
    producer = await LogProducer.open(settings)
    writes = Writes(producer, settings, Metrics())
    await writes.start()
    try:
        yield Submitted(producer, writes)
    finally:
        await writes.stop()
        await producer.close()


def test_records_of_many_requests_share_a_batch_and_a_request(settings: Settings) -> None:
    async def main() -> None:
        async with submitting(settings) as it:
            for number in range(100):
                it.submit(number, partition=number % 4)
            await it.come(100)
            assert it.producer.requests == 1
            assert it.producer.acknowledged == 100
            for number in range(100):
                assert it.outcomes[number] == AppendOutcome({number % 4: number // 4})

    asyncio.run(main())
    assert logged(settings) == {p: list(range(p, 100, 4)) for p in range(4)}


def test_no_records_and_no_such_partition(settings: Settings) -> None:
    async def main() -> None:
        async with submitting(settings) as it:
            outcomes: list[AppendOutcome] = []
            it.producer.submit(EVENTS.name, [], (), outcomes.append)
            assert not outcomes
            assert await it.producer.append(ITEMS.name, []) == {}
            assert outcomes == [AppendOutcome({})]
            for partition in (settings.partitions, -1):
                with pytest.raises(NotDurable):
                    it.producer.submit(EVENTS.name, [record(0, partition)], (), outcomes.append)
            assert it.producer.pending == 0
            assert it.producer.available.is_set()

    asyncio.run(main())


def test_a_record_that_is_refused_alone_is_refused_and_its_neighbours_are_not(
    settings: Settings,
) -> None:
    """The topic takes less than the producer knows."""

    async def main() -> None:
        async with submitting(settings) as it:
            await asyncio.to_thread(limit_batches, settings, 4_000)
            for number in range(10):
                it.submit(number, 5_000 if number == 5 else 10, partition=number == 9)
            await it.come(10)
            assert it.outcomes == dict.fromkeys(range(9), SPOOLED) | {9: AppendOutcome({1: 0})}
            await it.drained()
            it.submit(10, 5_000)
            it.submit(11)
            await it.come(12)
            error = it.outcomes[10].error
            assert isinstance(error, RecordRefused)
            await it.drained()

    asyncio.run(main())
    kept = settings.data_dir / "writes" / refused.FILE_NAME
    assert kept.stat().st_size > 5_000
    found = logged(settings)
    assert list(dict.fromkeys(found[0])) == [0, 1, 2, 3, 4, 6, 7, 8, 11]
    assert found[1] == [9]


@pytest.mark.check
@pytest.mark.parametrize("is_killed", [True, False])
def test_what_the_broker_did_not_take_is_spooled_in_order(
    broker_of_my_own: Broker, own: Settings, is_killed: bool
) -> None:
    """Submitted and appended in turns, while it stops and returns."""

    async def main() -> None:
        async with submitting(own) as it:
            it.submit(0)
            await it.come(1)
            broker_of_my_own.process.send_signal(19)
            tasks = []
            for number in range(1, 40):
                if number % 2:
                    it.submit(number)
                else:
                    tasks.append(asyncio.create_task(it.append(number)))
                await asyncio.sleep(0)
            if is_killed:
                broker_of_my_own.kill()
            await it.come(40)
            assert [it.outcomes[n] for n in range(1, 40)] == [SPOOLED] * 39
            submitted = [number for number in it.outcomes if number % 2]
            assert submitted == sorted(submitted)
            assert not it.writes.submit(EVENTS.name, [record(40, 0)], HEADERS, lambda _: None)
            if is_killed:
                await asyncio.to_thread(broker_of_my_own.start)
            else:
                broker_of_my_own.process.send_signal(18)
            await it.drained()
            it.submit(40)
            await it.come(41)
            assert it.outcomes[40].offsets is not None
            await asyncio.gather(*tasks)

    asyncio.run(main())
    found = list(dict.fromkeys(logged(own)[0]))
    assert found == list(range(41))


def test_too_many_records_are_not_taken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.log.producer.MAX_PENDING_RECORDS", 3)

    async def main() -> None:
        async with submitting(settings) as it:
            it.submit(0)
            it.submit(1)
            two = [Record(b"k", 0, b"2,"), Record(b"k", 0, b"3,")]
            assert not it.writes.submit(EVENTS.name, two, HEADERS, lambda _: None)
            assert await it.writes.append(EVENTS.name, two, HEADERS) is None
            await it.drained()

    asyncio.run(main())
    assert sorted(logged(settings)[0]) == [0, 1, 2, 3]


def test_every_connection_is_kept_alive_between_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that is asked for no records is asked something else."""
    monkeypatch.setattr("serving.log.producer.KEEP_ALIVE_SECONDS", 0.0)

    async def main() -> None:
        async with ScriptedBroker(tmp_path / "broker", 2).listening() as broker:
            broker.leader_of = lambda partition: 1 + partition % 2
            settings = Settings(kafka_bootstrap=broker.bootstrap, data_dir=tmp_path / "data")
            async with submitting(settings) as it:
                asked: Counter[int] = Counter()

                async def count(exchange: Exchange) -> None:
                    asked[exchange.node] += 1
                    await exchange.answer()

                broker.always[ApiVersionsRequest.API_KEY] = count
                await until(lambda: min(asked[1], asked[2]) > 1, SECONDS)
                for number in range(20):
                    it.submit(number, partition=0)
                await it.come(20)
                assert all(each.offsets is not None for each in it.outcomes.values())

    asyncio.run(main())
