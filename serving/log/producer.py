"""The writing side of the log: records go out through one producer, and a request waits for them all.

The producer works in a thread of its own. What it reports is queued there and taken up on the event
loop, one wake-up for all that came in since the last, so a record costs neither an asyncio future
nor a wake-up.

While the broker is away nothing is given to a producer: an append fails at once. It is away when it
refuses connections, when it has said nothing for about two seconds although something waits, or when a
record failed. Then everything under way fails together, in the order in which it was given, and the
producer is replaced as soon as the broker answers again. A producer never gives up by itself and sends
the batches of a partition one after the other, so what of its records is in the log, now or later, is
a beginning of what it was given: whoever sends all that failed once more, in order, through the next
producer has everything in the log in order, some of it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.record import Record
from serving.log.connect import DELIVERY_TIMEOUT_MS, discard, open_producer
from serving.log.errors import NotDurable, Refused
from serving.log.partitions import PartitionCount
from serving.log.reachable import is_reachable

log = logging.getLogger("freshet.serving")

MOST_PENDING: Final = 50_000
"""Records under way; beyond it the broker is not keeping up and more would only wait in memory."""
AT_ONCE: Final = 100
"""Records handed over before the event loop turns to others."""
WATCH_SECONDS: Final = 0.25
DOUBT_SECONDS: Final = 0.3
"""After this long without a word from the broker, while something waits for one, it is asked."""
REVIVE_SECONDS: Final = 10.0
REFUSALS: Final = (
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
"""Errors of a record, not of the broker: another try ends the same way."""


class Waiter:
    """What one `append` waits for. Touched on the event loop only, but for the two callbacks."""

    __slots__ = ("broken", "done", "left", "offsets", "owner", "refused", "since")

    def __init__(self, owner: Log, left: int) -> None:
        self.owner = owner
        self.left = left
        self.since = time.monotonic()
        self.done: asyncio.Future[bool] = owner.loop.create_future()
        """True: the broker has them all."""
        self.refused = self.broken = False
        self.offsets: dict[int, int] = {}

    def succeeded(self, metadata: Any) -> None:
        self.owner.report(self, metadata)

    def broke(self, error: BaseException) -> None:
        self.owner.report(self, error)

    def take(self, result: Any) -> None:
        """What became of one record; `broken` waits for the log, which ends all that fails in order."""
        self.left -= 1
        if isinstance(result, REFUSALS):
            self.refused = True
        elif isinstance(result, BaseException):
            self.broken = True
        elif result.offset > self.offsets.get(result.partition, -1):
            self.offsets[result.partition] = result.offset
        if not self.left and not self.broken:
            self.end(not self.refused)

    def end(self, result: bool) -> None:
        if not self.done.done():
            self.done.set_result(result)


class Log:
    """Appends to topics. Belongs to the event loop it was opened on."""

    def __init__(self, settings: Settings, producer: KafkaProducer | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.pending = 0
        self.there = asyncio.Event()
        """Set while the broker is not known to be away."""
        self._settings = settings
        self._brokers = settings.kafka_bootstrap.split(",")
        self._producer = producer
        self._reports: deque[tuple[Waiter, Any]] = deque()
        self._woken = False
        self._flight: dict[Waiter, None] = {}
        self._heard = self._left = time.monotonic()
        self._told = ""
        self._discarding: set[asyncio.Task[None]] = set()
        self._watching = self.loop.create_task(self._watch())
        if producer is not None:
            self.there.set()

    @classmethod
    async def open(cls, settings: Settings) -> Log:
        """Makes the topics where they are missing.

        Errors: `KafkaError` where no broker answers, unless this folder's topics are known from before:
        then the broker is away, and may come. `kafka.TopicMismatch`.
        """
        known = PartitionCount(settings)
        if not await is_reachable(settings.kafka_bootstrap.split(",")) and known.check():
            log.warning("the broker does not answer: it is away as this process starts")
            return cls(settings, None)
        await asyncio.to_thread(kafka_client.ensure_topics, settings)
        known.note()
        return cls(
            settings, await asyncio.to_thread(open_producer, settings, kafka_client.CONNECT_SECONDS)
        )

    async def append(self, topic: str, records: Sequence[Record]) -> dict[int, int]:
        """Returns once the broker has every record: partition -> highest offset written there.

        Errors: `NotDurable`, `Refused`.
        """
        if not records:
            return {}
        producer = self._producer
        if producer is None or self.pending + len(records) > MOST_PENDING:
            raise NotDurable
        waiter = Waiter(self, len(records))
        self.pending += len(records)
        self._flight[waiter] = None
        try:
            await self._send(producer, topic, records, waiter)
            whole = await waiter.done
        finally:
            self._flight.pop(waiter, None)
        if not whole:
            raise Refused if waiter.refused else NotDurable
        return waiter.offsets

    async def close(self) -> None:
        """Waits for what is under way, at most `DELIVERY_TIMEOUT_MS`."""
        self._watching.cancel()
        await asyncio.gather(self._watching, *self._discarding, return_exceptions=True)
        if self._producer is not None:
            with contextlib.suppress(KafkaTimeoutError):
                await asyncio.to_thread(self._producer.close, DELIVERY_TIMEOUT_MS / 1000)

    def report(self, waiter: Waiter, result: Any) -> None:
        """Called in any thread: what became of one record."""
        self._reports.append((waiter, result))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take_reports)

    def _take_reports(self) -> None:
        # first the flag: a report that comes after it wakes us again
        self._woken = False
        reports, broken = self._reports, False
        while reports:
            waiter, result = reports.popleft()
            self.pending -= 1
            waiter.take(result)
            if not isinstance(result, BaseException):
                self._heard = time.monotonic()
            # of a producer that was replaced it is no news
            broken = broken or (waiter.broken and waiter in self._flight)
        if broken:
            self._leave()

    async def _send(
        self, producer: KafkaProducer, topic: str, records: Sequence[Record], waiter: Waiter
    ) -> None:
        name = broker_name(self._settings, topic)
        for index, (key, partition, value, headers) in enumerate(records):
            if index and not index % AT_ONCE:
                await asyncio.sleep(0)
                if producer is not self._producer:
                    self._not_taken(producer, waiter, len(records) - index, NotDurable())
                    return
            try:
                future = producer.send(name, value, key, list(headers), partition)
            except Exception as error:  # KafkaError, or an assertion where it is closed
                self._not_taken(producer, waiter, len(records) - index, error)
                return
            future.add_callback(waiter.succeeded)
            future.add_errback(waiter.broke)

    def _not_taken(
        self, producer: KafkaProducer, waiter: Waiter, left: int, error: Exception
    ) -> None:
        """The producer did not even take a record: those from it on are not on their way."""
        self.pending -= left
        waiter.left -= left
        waiter.refused = isinstance(error, REFUSALS)
        waiter.end(False)
        # a time-out means that its buffer is full, as beyond MOST_PENDING
        if producer is self._producer and not isinstance(error, (KafkaTimeoutError, *REFUSALS)):
            self._leave()

    async def _watch(self) -> None:
        while True:
            slept = time.monotonic()
            await asyncio.sleep(WATCH_SECONDS)
            if time.monotonic() - slept > 2 * WATCH_SECONDS:
                self._heard = time.monotonic()  # we were late ourselves: nobody could be heard
            try:
                if self._producer is None:
                    await self._revive()
                elif await self._is_away():
                    self._leave()
            except Exception as error:
                self._tell(f"the broker can't be watched ({type(error).__name__})")

    async def _is_away(self) -> bool:
        if not self._flight:
            return False
        oldest = next(iter(self._flight)).since
        silent = time.monotonic() - max(self._heard, oldest)
        if silent < DOUBT_SECONDS:
            return time.monotonic() - oldest > DELIVERY_TIMEOUT_MS / 1000
        producer, answered = self._producer, await is_reachable(self._brokers)
        if producer is not self._producer or not self._flight:
            return False
        oldest = next(iter(self._flight)).since
        waits = time.monotonic() - oldest
        quiet = waits > DOUBT_SECONDS and time.monotonic() - self._heard > DOUBT_SECONDS
        return waits > DELIVERY_TIMEOUT_MS / 1000 or (quiet and not answered)

    def _leave(self) -> None:
        """The broker is away: what is under way fails, in its order, and its producer with it."""
        producer, self._producer = self._producer, None
        self.there.clear()
        self._left = time.monotonic()
        if producer is None:
            return
        log.warning("the broker is away: what is written waits in the spool")
        flight, self._flight = self._flight, {}
        for waiter in flight:
            waiter.end(False)
        self._discard(producer)

    def _discard(self, producer: KafkaProducer) -> None:
        task = self.loop.create_task(asyncio.to_thread(discard, producer))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _revive(self) -> None:
        if not await is_reachable(self._brokers):
            return
        try:
            await asyncio.to_thread(kafka_client.ensure_topics, self._settings)
            producer = await asyncio.to_thread(open_producer, self._settings, REVIVE_SECONDS)
        except kafka_client.TopicMismatch as error:
            self._tell(f"what waits can't be sent: {error}")
        except KafkaError as error:
            self._tell(f"the broker answers, and can't be used ({type(error).__name__})")
        else:
            self._producer, self._heard, self._told = producer, time.monotonic(), ""
            self.there.set()
            log.warning("the broker is back after %.1f s", time.monotonic() - self._left)
            PartitionCount(self._settings).note()

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            log.warning("%s", text)
