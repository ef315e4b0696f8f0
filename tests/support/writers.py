"""Writers on one producer and its spool, in the test's own event loop, and what became of each record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from infra.kafka import kafka_client
from infra.kafka.names import topic_partition
from infra.kafka.produce.errors import NotDurable
from infra.settings import Settings
from schemas.record import Record
from schemas.topics import EVENTS
from serving.log.producer import LogProducer
from serving.log.writes import Writes
from serving.metrics import Metrics

WRITERS: Final = 6
PAUSE_SECONDS: Final = 0.005
Logged = Mapping[int, Sequence[bytes]]
"""Partition -> the values in the log, by offset."""


class Writers:
    """Each of `WRITERS` appends numbered records to a partition, the next once the one before has ended."""

    def __init__(self, settings: Settings, producer: LogProducer, writes: Writes) -> None:
        self.settings, self.producer, self.writes = settings, producer, writes
        self.sent: defaultdict[int, list[bytes]] = defaultdict(list)
        self.offsets: dict[bytes, int] = {}
        """Of those that the broker acknowledged."""
        self.spooled: set[bytes] = set()
        self.failed: set[bytes] = set()

    async def append(self, writer: int) -> None:
        """One record; a failure is noted."""
        partition, number = writer % self.settings.partitions, len(self.sent[writer])
        value = b"%d,%d" % (writer, number)
        self.sent[writer].append(value)
        try:
            found = await self.writes.append(EVENTS.name, [Record(b"key", partition, value, ())])
        except NotDurable:
            self.failed.add(value)
            return
        if found is None:
            self.spooled.add(value)
        else:
            self.offsets[value] = found[partition]

    async def append_each(self, records: int = 1) -> None:
        """So many records of each writer."""

        async def write(writer: int) -> None:
            for _ in range(records):
                await self.append(writer)

        await asyncio.gather(*map(write, range(WRITERS)))

    @asynccontextmanager
    async def appending(self) -> AsyncIterator[None]:
        """All writers append while the block runs, a few hundred records a second."""
        stop = asyncio.Event()

        async def write(writer: int) -> None:
            while not stop.is_set():
                await self.append(writer)
                await asyncio.sleep(PAUSE_SECONDS)

        tasks = [asyncio.create_task(write(writer)) for writer in range(WRITERS)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def await_acknowledged(self, more: int, seconds: float) -> None:
        """Returns once the broker has acknowledged so many more."""
        wanted = len(self.offsets) + more
        await until(lambda: len(self.offsets) >= wanted, seconds)

    async def settle(self, seconds: float) -> None:
        """Returns once the broker has what the spool had and takes a record of each writer again."""
        await until(lambda: self.producer.available.is_set() and not self.writes.waiting, seconds)
        spooled = len(self.spooled)
        await self.append_each(1)
        assert len(self.spooled) == spooled

    def check(self, logged: Logged) -> None:
        """What is acknowledged is in the log, in order by the first and by the last of each record. In it
        twice is only what the spool may have sent again."""
        assert self.producer.pending == 0
        for partition, values in logged.items():
            writers = range(partition, WRITERS, self.settings.partitions)
            sent = {it for writer in writers for it in self.sent[writer]}
            assert set(values) <= sent
            assert all(values[self.offsets[it]] == it for it in sent & self.offsets.keys())
            for writer in writers:
                self._check_order([it for it in values if it.startswith(b"%d," % writer)], writer)

    def _check_order(self, logged: Sequence[bytes], writer: int) -> None:
        durable = self.offsets.keys() | self.spooled
        acknowledged = [it for it in self.sent[writer] if it in durable]
        for order in (dict.fromkeys(logged), reversed(dict.fromkeys(reversed(logged)))):
            assert [it for it in order if it in durable] == acknowledged
        again = {it for it, count in Counter(logged).items() if count > 1}
        assert again <= self.spooled | self.failed, "twice without a spool"


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[Writers]:
    """Writers of a producer of their own, with a spool under `settings.data_dir`."""
    producer = await LogProducer.open(settings)
    try:
        writes = Writes(producer, settings, Metrics())
        await writes.start()
        try:
            yield Writers(settings, producer, writes)
        finally:
            await writes.stop()
    finally:
        await producer.close()


def read_log(settings: Settings, topic: str = EVENTS.name) -> dict[int, list[bytes]]:
    """Partition -> the values that the broker has, by offset."""
    found: dict[int, list[bytes]] = {n: [] for n in range(settings.partitions)}
    consumer = kafka_client.consumer(settings, max_poll_records=5000)
    try:
        places = [topic_partition(settings, topic, n) for n in found]
        consumer.assign(places)
        consumer.seek_to_beginning()
        end_offsets = consumer.end_offsets(places)
        while any(consumer.position(place) < end for place, end in end_offsets.items()):
            for place, records in consumer.poll(200).items():
                found[place.partition] += [record.value for record in records]
    finally:
        consumer.close()
    return found


async def until(
    condition: Callable[[], bool],
    seconds: float,
    again: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Returns once `condition()` holds; does `again` meanwhile. Errors: AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        if again is not None:
            await again()
        await asyncio.sleep(PAUSE_SECONDS)


def ended(main: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Runs `main` in an event loop. Errors: those of `main`; TimeoutError after `seconds`."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await main()

    asyncio.run(bounded())
