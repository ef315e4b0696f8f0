"""The writing side of the log: records go out through one producer, and a request waits for all of its own.

The producer works in a thread of its own. Its reports are queued there and handled on the event loop, with
one wake-up for all reports since the last, so a record costs neither an asyncio future nor a wake-up.

While the broker is away no producer gets records: an append fails at once. The broker is away when it
refuses connections, when it has not answered for about two seconds although records wait, or when a
record failed. Then all records in flight fail together, in their order, and the producer is replaced as
soon as the broker answers again. A producer never gives up a record and sends the batches of a partition
one after the other, so the records that the log has of a producer, now or later, are a prefix of those
that it got. A caller that sends all failed records again, in order, through the next producer has every
record in the log in order, some of them twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from infra.kafka import kafka_client
from infra.settings import Settings
from schemas.headers import Headers
from schemas.record import Record
from schemas.topics import EVENTS
from serving.log.append import FieldList, RecordAppender
from serving.log.connect import DELIVERY_TIMEOUT_MS, discard, open_producer
from serving.log.errors import NotDurable
from serving.log.partitions import PartitionCount
from serving.log.pending import RECORD_ERRORS, PendingRecords, Waiter, by_partition
from serving.log.reachable import is_reachable

log = logging.getLogger("freshet.serving")

MAX_PENDING_RECORDS: Final = 50_000
"""Records in flight; beyond it the broker does not keep up and more would only wait in memory."""
RECORDS_PER_YIELD: Final = 250
"""Records passed to the producer before the event loop runs other tasks."""
WATCH_SECONDS: Final = 0.25
MAX_SILENCE_SECONDS: Final = 0.3
"""After this long without an answer, while records wait for one, the broker is probed."""
RECONNECT_TIMEOUT_SECONDS: Final = 10.0


class LogProducer:
    """Appends to topics. Belongs to the event loop on which it was opened."""

    def __init__(self, settings: Settings, producer: KafkaProducer | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.pending = 0
        self.available = asyncio.Event()
        """Set unless the broker is away."""
        self.events_topic = ""
        """Id of the topic `events`; "" while the broker has not answered since the start."""
        self._settings = settings
        self._brokers = settings.kafka_bootstrap.split(",")
        self._producer = producer
        self._reports: deque[tuple[PendingRecords, Any]] = deque()
        self._woken = False
        self._in_flight: dict[Waiter, None] = {}
        self._last_heard = self._away_since = time.monotonic()
        self._last_warning = ""
        self._discarding: set[asyncio.Task[None]] = set()
        self._watching = self.loop.create_task(self._watch())
        if producer is not None:
            self.available.set()

    @classmethod
    async def open(cls, settings: Settings) -> LogProducer:
        """Creates the topics that are missing.

        Where no broker answers and this folder has a stored partition count, it opens with the broker away.
        Errors: `KafkaError` where no broker answers and no count is stored; `kafka_client.TopicMismatch`.
        """
        partition_count = PartitionCount(settings)
        if not await is_reachable(settings.kafka_bootstrap.split(",")) and partition_count.check():
            log.warning("the broker does not answer: it is away as this process starts")
            return cls(settings, None)
        topics = await asyncio.to_thread(kafka_client.ensure_topics, settings)
        partition_count.store()
        opened = cls(
            settings, await asyncio.to_thread(open_producer, settings, kafka_client.CONNECT_SECONDS)
        )
        opened.events_topic = topics[EVENTS.name].id
        return opened

    async def append(
        self, topic: str, records: Sequence[Record], headers: Headers = ()
    ) -> dict[int, int]:
        """Returns once the broker has every record: partition -> highest offset written there. `headers`: of
        the records that have none.

        Errors: `NotDurable`, `Refused`.
        """
        if not records:
            return {}
        producer = self._producer
        if producer is None or self.pending + len(records) > MAX_PENDING_RECORDS:
            raise NotDurable
        waiter = Waiter(self.loop)
        self.pending += len(records)
        self._in_flight[waiter] = None
        try:
            await self._send(producer, topic, records, list(headers), waiter)
            whole = await waiter.done
        finally:
            self._in_flight.pop(waiter, None)
        if not whole:
            raise waiter.refused or NotDurable
        return waiter.offsets

    async def close(self) -> None:
        """Waits for the records in flight, at most `DELIVERY_TIMEOUT_MS`."""
        self._watching.cancel()
        await asyncio.gather(self._watching, *self._discarding, return_exceptions=True)
        if self._producer is not None:
            with contextlib.suppress(KafkaTimeoutError):
                await asyncio.to_thread(self._producer.close, DELIVERY_TIMEOUT_MS / 1000)

    def report(self, records: PendingRecords, result: Any) -> None:
        """Queues the metadata of the last of `records`, or the error of one. Called in any thread."""
        self._reports.append((records, result))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take_reports)

    def _take_reports(self) -> None:
        # the flag first: a report after it schedules another call
        self._woken = False
        reports, broken, refused = self._reports, False, False
        while reports:
            records, result = reports.popleft()
            waiter = records.waiter
            if not records.count:
                continue  # an error of the same partition came before
            self.pending -= records.count
            records.count = 0
            waiter.add_result(result)
            if not isinstance(result, BaseException):
                self._last_heard = time.monotonic()
            # a failure of a replaced producer is not the failure of this one
            if waiter in self._in_flight:
                broken |= waiter.broken
                # a producer takes no record after one that the broker refused: it fails them all alike
                refused |= waiter.refused is not None
        if broken or refused:
            self._mark_away("the broker is away" if broken else "the broker refused a record")

    async def _send(
        self,
        producer: KafkaProducer,
        topic: str,
        records: Sequence[Record],
        common: FieldList,
        waiter: Waiter,
    ) -> None:
        parts = by_partition(records, waiter, self.report)
        try:
            appender = RecordAppender(producer, self._settings, topic)
            try:
                for number, (partition, chunk, part) in enumerate(_chunks(parts)):
                    if number:
                        await asyncio.sleep(0)
                        if producer is not self._producer:
                            raise NotDurable
                    future = appender.append(partition, chunk, common, part.on_error)
                    if chunk[-1] is part.records[-1]:
                        future.add_callback(part.on_success)
            finally:
                appender.wake()
        except Exception as error:  # KafkaError, or an assertion where it is closed
            self._fail_rest(producer, waiter, parts, error)

    def _fail_rest(
        self,
        producer: KafkaProducer,
        waiter: Waiter,
        parts: dict[int, PendingRecords],
        error: Exception,
    ) -> None:
        """The producer refused a record: it and those behind it were not sent, and `waiter` gets no more."""
        for part in parts.values():
            self.pending -= part.count
            part.count = 0
        waiter.refused = RECORD_ERRORS.get(type(error))
        waiter.finish(False)
        # a time-out means that the producer's buffer is full, as beyond MAX_PENDING_RECORDS
        if producer is self._producer and not isinstance(
            error, (KafkaTimeoutError, *RECORD_ERRORS)
        ):
            self._mark_away()

    async def _watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(WATCH_SECONDS)
            if time.monotonic() - before > 2 * WATCH_SECONDS:
                # this loop was blocked: no answer could be received
                self._last_heard = time.monotonic()
            try:
                if self._producer is None:
                    await self._reconnect()
                elif await self._is_away():
                    self._mark_away()
            except Exception as error:
                self._warn_once(f"the broker can't be watched ({type(error).__name__})")

    async def _is_away(self) -> bool:
        if not self._in_flight:
            return False
        oldest = next(iter(self._in_flight)).since
        silent = time.monotonic() - max(self._last_heard, oldest)
        if silent < MAX_SILENCE_SECONDS:
            return time.monotonic() - oldest > DELIVERY_TIMEOUT_MS / 1000
        producer, answered = self._producer, await is_reachable(self._brokers)
        if producer is not self._producer or not self._in_flight:
            return False
        oldest = next(iter(self._in_flight)).since
        waits = time.monotonic() - oldest
        quiet = (
            waits > MAX_SILENCE_SECONDS
            and time.monotonic() - self._last_heard > MAX_SILENCE_SECONDS
        )
        return waits > DELIVERY_TIMEOUT_MS / 1000 or (quiet and not answered)

    def _mark_away(self, why: str = "the broker is away") -> None:
        """The broker is away: all records in flight fail, in their order, and the producer is discarded."""
        producer, self._producer = self._producer, None
        self.available.clear()
        self._away_since = time.monotonic()
        if producer is None:
            return
        log.warning("%s: writes wait in the spool", why)
        flight, self._in_flight = self._in_flight, {}
        for waiter in flight:
            waiter.finish(False)
        self._discard(producer)

    def _discard(self, producer: KafkaProducer) -> None:
        task = self.loop.create_task(asyncio.to_thread(discard, producer))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _reconnect(self) -> None:
        if not await is_reachable(self._brokers):
            return
        try:
            topics = await asyncio.to_thread(kafka_client.ensure_topics, self._settings)
            producer = await asyncio.to_thread(
                open_producer, self._settings, RECONNECT_TIMEOUT_SECONDS
            )
        except kafka_client.TopicMismatch as error:
            self._warn_once(f"the writes that wait can't be sent: {error}")
        except KafkaError as error:
            self._warn_once(f"the broker answers, but can't be used ({type(error).__name__})")
        else:
            self._producer, self._last_heard, self._last_warning = producer, time.monotonic(), ""
            self.events_topic = topics[EVENTS.name].id
            self.available.set()
            log.warning("the broker is back after %.1f s", time.monotonic() - self._away_since)
            PartitionCount(self._settings).store()

    def _warn_once(self, text: str) -> None:
        if text != self._last_warning:
            self._last_warning = text
            log.warning("%s", text)


def _chunks(
    parts: Mapping[int, PendingRecords],
) -> Iterator[tuple[int, list[Record], PendingRecords]]:
    """The records of each partition, in their order, up to `RECORDS_PER_YIELD` at a time."""
    for partition, part in parts.items():
        for begin in range(0, len(part.records), RECORDS_PER_YIELD):
            yield partition, part.records[begin : begin + RECORDS_PER_YIELD], part
