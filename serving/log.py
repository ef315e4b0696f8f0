"""The writing side of the log: records go out through one producer, and a request waits for them all.

The producer works in a thread of its own. What it reports is queued there and taken up on the event
loop, one wake-up for all that came in since the last, so a record costs neither an asyncio future
nor a wake-up.
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
from kafka.errors import KafkaTimeoutError

from infra import kafka
from infra.settings import Settings
from schemas.topics import TOPICS
from serving.ingest import Record

log = logging.getLogger("freshet.serving")

DELIVERY_MS: Final = 5000
"""After this long without an acknowledgement a record has failed."""
MOST_PENDING: Final = 50_000
"""Records under way; beyond it the broker is not keeping up and more would only wait in memory."""
AT_ONCE: Final = 100
"""Records handed over before the event loop turns to others."""
REOPEN_AFTER: Final = 10.0
"""Seconds of failures only, after which the producer is replaced: some of its errors are final."""


class NotDurable(Exception):
    """The broker has not acknowledged every record. Some may be there: a retry needs the same ids."""


class _Waiter:
    """What one `append` waits for. Touched on the event loop only, but for the two callbacks."""

    __slots__ = ("done", "failed", "left", "offsets", "owner")

    def __init__(self, owner: Log, left: int) -> None:
        self.owner = owner
        self.left = left
        self.done: asyncio.Future[None] = owner.loop.create_future()
        self.failed = False
        self.offsets: dict[int, int] = {}

    def succeeded(self, metadata: Any) -> None:
        self.owner.report(self, metadata)

    def broke(self, error: BaseException) -> None:
        self.owner.report(self, error)

    def take(self, result: Any) -> None:
        if isinstance(result, BaseException):
            self.failed = True
        elif result.offset > self.offsets.get(result.partition, -1):
            self.offsets[result.partition] = result.offset
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Log:
    """Appends to topics. Belongs to the event loop it was opened on."""

    def __init__(self, settings: Settings, producer: KafkaProducer) -> None:
        self.loop = asyncio.get_running_loop()
        self.pending = 0
        self._settings = settings
        self._producer = producer
        self._reports: deque[tuple[_Waiter, Any]] = deque()
        self._woken = False
        self._failing_since: float | None = None
        self._reopening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings) -> Log:
        """Makes the topics where they are missing. Errors: `KafkaError`, `kafka.TopicMismatch`."""
        await asyncio.to_thread(kafka.ensure_topics, settings)
        return cls(settings, await asyncio.to_thread(_open, settings))

    async def append(self, topic: str, records: Sequence[Record]) -> dict[int, int]:
        """Returns once the broker has every record: partition -> highest offset written there.

        Errors: `NotDurable`.
        """
        if not records:
            return {}
        if self.pending + len(records) > MOST_PENDING:
            raise NotDurable
        waiter = _Waiter(self, len(records))
        self.pending += len(records)
        await self._send(topic, records, waiter)
        with contextlib.suppress(TimeoutError):
            # the producer gives up before this; should its thread have died, nobody hangs
            async with asyncio.timeout(DELIVERY_MS / 1000 + 1):
                await waiter.done
        if waiter.left:
            waiter.failed = True
        self._judge(waiter.failed)
        if waiter.failed:
            raise NotDurable
        return waiter.offsets

    async def close(self) -> None:
        """Waits for what is under way, at most `DELIVERY_MS`."""
        if self._reopening is not None:
            self._reopening.cancel()
        await asyncio.to_thread(self._producer.close, DELIVERY_MS / 1000)

    def report(self, waiter: _Waiter, result: Any) -> None:
        """Called in any thread: what became of one record."""
        self._reports.append((waiter, result))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take_reports)

    def _take_reports(self) -> None:
        # first the flag: a report that comes after it wakes us again
        self._woken = False
        reports = self._reports
        while reports:
            waiter, result = reports.popleft()
            self.pending -= 1
            waiter.take(result)

    async def _send(self, topic: str, records: Sequence[Record], waiter: _Waiter) -> None:
        for index, (key, partition, value) in enumerate(records):
            if index and not index % AT_ONCE:
                await asyncio.sleep(0)
            try:
                future = self._producer.send(topic, value, key, partition=partition)
            except Exception as error:  # KafkaError, or an assertion where it is closed
                for _ in range(index, len(records)):
                    self.report(waiter, error)
                return
            future.add_callback(waiter.succeeded)
            future.add_errback(waiter.broke)

    def _judge(self, failed: bool) -> None:
        now = time.monotonic()
        if not failed:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > REOPEN_AFTER and self._reopening is None:
            self._reopening = self.loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        try:
            old, self._producer = self._producer, await asyncio.to_thread(_open, self._settings)
            self._failing_since = None
            await asyncio.to_thread(old.close, 0)
        except Exception as error:
            log.warning("the producer can't be replaced: %s", type(error).__name__)
        finally:
            self._reopening = None


def _open(settings: Settings) -> KafkaProducer:
    producer = kafka.producer(
        settings,
        # 3 ms: half the CPU of 0 at a thousand requests a second, and most of a wait of its own
        linger_ms=3,
        # a request of 1,000 events is one batch a partition, not five round trips one after another
        batch_size=256 * 1024,
        request_timeout_ms=DELIVERY_MS - 1000,
        delivery_timeout_ms=DELIVERY_MS,
        retry_backoff_ms=50,
        reconnect_backoff_max_ms=500,
        # without metadata `send` blocks, and with it everybody on this event loop
        max_block_ms=100,
    )
    until = time.monotonic() + kafka.CONNECT_SECONDS
    for topic in TOPICS:
        _fetch_metadata(producer, topic.name, until)
    return producer


def _fetch_metadata(producer: KafkaProducer, topic: str, until: float) -> None:
    """Errors: `KafkaTimeoutError`."""
    while True:
        try:
            producer.partitions_for(topic)
            return
        except KafkaTimeoutError:
            if time.monotonic() > until:
                raise
