"""The writing side of the log: records go out through one producer, and a request waits for all of its own.

All of it is on the event loop. A record costs no future, no task and no wake-up: the records of a turn of the
loop go into one batch a partition, and the answer to a batch completes the appends that have records in it.

While the broker is away no producer gets records: an append fails at once. The broker is away when it
refuses connections, when it has not answered for about two seconds although records wait, or when a
record failed. Then all records in flight fail together, in their order, and the producer is replaced as
soon as every partition has a leader that answers. A producer sends no record twice, and a broker takes its
batches of a partition one after the other, so the records that the log has of a producer, now or later, are
a prefix, per partition, of those that it got. A caller that sends all failed records again, in order, through
the next producer has every record in the log in order, some of them twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from kafka.errors import KafkaError

from infra.kafka import kafka_client
from infra.kafka.produce.batch import MAX_BATCH_BYTES
from infra.kafka.produce.connect import DELIVERY_TIMEOUT_MS
from infra.kafka.produce.errors import NotDurable
from infra.kafka.produce.failure import Failure
from infra.kafka.produce.idempotent import IdempotentProducer
from infra.kafka.produce.leaders import TopicsDiffer
from infra.kafka.produce.opener import Opener
from infra.kafka.produce.outcome import AppendOutcome, Done
from infra.kafka.produce.pending import PendingAppend, PendingAppends
from infra.kafka.produce.record_batch import HEAD_BYTES, MAX_RECORD_OVERHEAD
from infra.kafka.reachable import is_reachable
from infra.settings import Settings
from schemas.errors import ConfigurationError
from schemas.headers import Headers
from schemas.record import Record
from serving.log.outages import Outages
from serving.log.partitions import PartitionCount

log = logging.getLogger("freshet.serving")

MAX_PENDING_RECORDS: Final = 50_000
"""Records in flight; beyond it the broker does not keep up and more would only wait in memory."""
MAX_PENDING_BYTES: Final = 64 << 20
WATCH_SECONDS: Final = 0.25
KEEP_ALIVE_SECONDS: Final = 60.0
"""Brokers and firewalls end what is silent for some minutes."""
MAX_SILENCE_SECONDS: Final = 0.3
"""After this long without an answer, while records wait for one, the broker is probed."""


HEADERS_BYTES: Final = 64
"""Of a frame's headers, at most: its schema, and how many records it holds."""


class LogProducer:
    """Appends to topics. Belongs to the event loop on which it was opened."""

    def __init__(self, settings: Settings) -> None:
        self.available = asyncio.Event()
        """Set unless the broker is away."""
        self.events_topic = ""
        """Id of the topic `events`; "" while the broker has not answered since the start."""
        self._settings = settings
        self._producer: IdempotentProducer | None = None
        self._pending = PendingAppends()
        self._opener = Opener(settings, self._pending, self._failed)
        self._lost = asyncio.Event()
        self._keep_alive_at = time.monotonic()
        self._outages = Outages()
        self._last_warning = ""
        self._said: set[str] = set()
        self._requests = self._records = 0
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: Settings) -> LogProducer:
        """Creates the topics that are missing.

        Where no broker answers and this folder has a stored partition count, it opens with the broker away.
        So it does where the broker answers and can't be used yet, since a partition has no leader. Errors:
        `KafkaError` where no broker answers and no count is stored; `kafka_client.TopicMismatch` and other
        `ConfigurationError`s for what an operator must mend.
        """
        made, partition_count = cls(settings), PartitionCount(settings)
        if await is_reachable(settings) or not partition_count.check():
            await asyncio.to_thread(kafka_client.ensure_topics, settings)
            partition_count.store()
            try:
                made._use(await made._opener.open_first())
            except (OSError, EOFError, TopicsDiffer, KafkaError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                made._warn_once(f"the broker can't be used yet ({type(error).__name__})")
        else:
            log.warning("the broker does not answer: it is away as this process starts")
        made._watching = asyncio.create_task(made._watch())
        return made

    @property
    def pending(self) -> int:
        """Records in flight."""
        return self._producer.pending_records if self._producer else 0

    @property
    def requests(self) -> int:
        """Produce requests since the start."""
        return self._requests + (self._producer.requests if self._producer else 0)

    @property
    def acknowledged(self) -> int:
        """Records that the broker has acknowledged since the start."""
        return self._records + (self._producer.acknowledged_records if self._producer else 0)

    def max_value_bytes(self, topic: str) -> int:
        """The longest value of a record of ours that `topic` takes, as the broker says; while none is there,
        that of any batch."""
        batch = MAX_BATCH_BYTES
        if self._producer is not None:
            batch = self._producer.cluster.topics[topic].max_batch_bytes
        return batch - HEAD_BYTES - MAX_RECORD_OVERHEAD - HEADERS_BYTES

    def submit(self, topic: str, records: Sequence[Record], headers: Headers, done: Done) -> None:
        """Takes records; `done` gets the outcome later: the offsets once the broker has every record, or an
        error. `headers`: of the records that have none.

        Errors: `NotDurable` where the broker is away, too much is in flight, or the topic lacks a partition:
        then no record is taken, and `done` is not called.
        """
        producer = self._producer
        if (
            producer is None
            or producer.pending_records + len(records) > MAX_PENDING_RECORDS
            or producer.pending_bytes > MAX_PENDING_BYTES
        ):
            raise NotDurable
        if not records:
            asyncio.get_running_loop().call_soon(done, AppendOutcome({}))
            return
        append = PendingAppend(done)
        producer.append(topic, records, headers, append)
        self._pending.add(append)

    async def append(
        self, topic: str, records: Sequence[Record], headers: Headers = ()
    ) -> Mapping[int, int]:
        """Returns once the broker has every record: partition -> highest offset written there. `headers`: of
        the records that have none.

        Errors: `NotDurable`, `RecordRefused`, `TimeRefused`.
        """
        appended: asyncio.Future[AppendOutcome] = asyncio.get_running_loop().create_future()
        self.submit(topic, records, headers, lambda outcome: settle(appended, outcome))
        offsets, error = await appended
        if error is not None:
            raise error
        return offsets or {}

    async def close(self) -> None:
        """Waits for the records in flight, at most `DELIVERY_TIMEOUT_MS`; then they fail."""
        if self._producer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DELIVERY_TIMEOUT_MS / 1000):
                    await self._pending.emptied()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._producer is not None:
            self._retire(self._producer)
        self._pending.fail()

    async def _watch(self) -> None:
        while True:
            try:
                if self._producer is None:
                    await self._reconnect()
                else:
                    await self._wait_lost()
                    if await self._is_away():
                        self._mark_away(Failure())
                    self._keep_alive()
            except ConfigurationError as error:  # it refuses us now
                self._mark_away(Failure())
                self._warn_once(str(error))
            except Exception as error:
                self._warn_once(f"the broker can't be watched ({type(error).__name__})")
                await asyncio.sleep(WATCH_SECONDS)

    async def _wait_lost(self) -> None:
        """Returns after `WATCH_SECONDS`, or once the producer has ended."""
        before = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_SECONDS):
                await self._lost.wait()
        if time.monotonic() - before > 2 * WATCH_SECONDS:
            # this loop was blocked: no answer could be received
            self._pending.heard = time.monotonic()

    def _keep_alive(self) -> None:
        if self._producer is not None and time.monotonic() > self._keep_alive_at:
            self._keep_alive_at = time.monotonic() + KEEP_ALIVE_SECONDS
            self._producer.keep_alive()

    async def _is_away(self) -> bool:
        oldest = self._pending.oldest
        if self._producer is None or oldest is None:
            return False
        silent = time.monotonic() - max(self._pending.heard, oldest)
        if silent < MAX_SILENCE_SECONDS:
            return time.monotonic() - oldest > DELIVERY_TIMEOUT_MS / 1000
        producer, answered = self._producer, await self._opener.is_reachable()
        oldest = self._pending.oldest
        if self._producer is not producer or oldest is None:
            return False
        waits = time.monotonic() - oldest
        quiet = (
            waits > MAX_SILENCE_SECONDS
            and time.monotonic() - self._pending.heard > MAX_SILENCE_SECONDS
        )
        return waits > DELIVERY_TIMEOUT_MS / 1000 or (quiet and not answered)

    def _failed(self, producer: IdempotentProducer, failure: Failure) -> None:
        if producer is self._producer:
            self._mark_away(failure)

    def _mark_away(self, failure: Failure) -> None:
        """The broker is away: all records in flight fail, in their order, and the producer is discarded."""
        producer, self._producer = self._producer, None
        self.available.clear()
        if producer is None:
            return
        self._retire(producer)
        self._opener.learn(producer, failure)
        self._outages.begin(failure.why)
        if failure.remedy and failure.remedy not in self._said:
            self._said.add(failure.remedy)
            log.error("%s", failure.remedy)
        self._lost.set()
        self._pending.fail(failure.errors)

    def _retire(self, producer: IdempotentProducer) -> None:
        self._requests += producer.requests
        self._records += producer.acknowledged_records
        producer.abort()

    async def _reconnect(self) -> None:
        try:
            producer = await self._opener.open_next()
        except ConfigurationError as error:
            self._warn_once(f"the writes that wait can't be sent: {error}")
        except (OSError, EOFError, TopicsDiffer, KafkaError) as error:
            self._warn_once(f"the broker answers, but can't be used ({type(error).__name__})")
        else:
            if producer is None:
                return
            self._use(producer)
            self._last_warning = ""
            self._outages.end()
            PartitionCount(self._settings).store()

    def _use(self, producer: IdempotentProducer) -> None:
        self._producer, self.events_topic = producer, producer.events_topic
        self._pending.heard = time.monotonic()
        self._lost.clear()
        self.available.set()

    def _warn_once(self, text: str) -> None:
        if text != self._last_warning:
            self._last_warning = text
            log.warning("%s", text)


def settle(future: asyncio.Future[AppendOutcome], outcome: AppendOutcome) -> None:
    """Gives a future its outcome, unless who awaits it has gone."""
    if not future.done():
        future.set_result(outcome)
