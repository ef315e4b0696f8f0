"""Opens producers one after the other, each with what was learned from those before it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from kafka.errors import KafkaError

from infra.backoff import Pauses
from infra.kafka import kafka_client
from infra.kafka.produce.connect import OnFailure, Predecessor, open_producer
from infra.kafka.produce.failure import Failure
from infra.kafka.produce.idempotent import IdempotentProducer
from infra.kafka.produce.leaders import TopicsDiffer
from infra.kafka.produce.pending import PendingAppends
from infra.kafka.reachable import is_reachable
from infra.settings import Settings

RETRY_SECONDS: Final = 0.25
"""Between two attempts to open one."""
TIMEOUT_SECONDS: Final = 10.0
"""Of an attempt; a process that starts waits as long for a leader of every partition."""
MAX_PAUSE_SECONDS: Final = 2.0
MIN_LIFE_SECONDS: Final = 1.0
"""A producer that has lived for less is replaced after a pause, each longer than the one before, unless a
record was refused."""


class Opener:
    """The producers of one process. `pending` and `on_failure`: of each of them."""

    def __init__(self, settings: Settings, pending: PendingAppends, on_failure: OnFailure) -> None:
        self.pause = 0.0
        """In s, before the next attempt."""
        self._settings, self._pending, self._on_failure = settings, pending, on_failure
        self._bootstrap = [each.strip() for each in settings.kafka_bootstrap.split(",")]
        self._brokers = self._bootstrap
        self._predecessor = Predecessor()
        self._pauses = Pauses(RETRY_SECONDS, MAX_PAUSE_SECONDS)
        self._opened_at = time.monotonic()

    async def is_reachable(self) -> bool:
        """Whether a broker of the cluster answers. Errors: `KafkaSecurityError`."""
        return await is_reachable(self._settings, self._brokers)

    async def open_first(self) -> IdempotentProducer:
        """Errors: as `open`'s; those that waiting may mend after `TIMEOUT_SECONDS`."""
        pauses, until = Pauses(), time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                return await self._open()
            except (OSError, EOFError, TopicsDiffer):
                if time.monotonic() > until:
                    raise
            except KafkaError as error:
                # a new topic has no leader for a moment
                if not error.retriable or time.monotonic() > until:
                    raise
            await asyncio.sleep(next(pauses))

    async def open_next(self) -> IdempotentProducer | None:
        """After `pause`; makes the topics that are not there any more. None: no broker answers.

        Errors: OSError (a time-out is one), EOFError, `KafkaError`, `ConfigurationError`, `TopicsDiffer`.
        """
        pause, self.pause = self.pause, RETRY_SECONDS
        await asyncio.sleep(pause)
        if not await self.is_reachable():
            return None
        try:
            return await self._open()
        except TopicsDiffer:
            await asyncio.to_thread(kafka_client.ensure_topics, self._settings)
            return await self._open()

    def learn(self, ended: IdempotentProducer, failure: Failure) -> None:
        """What the next one is opened with, and how soon."""
        before = self._predecessor
        self._predecessor = before._replace(
            producer=ended.id.next() if failure.keeps_id else None,
            too_large={**before.too_large, **failure.too_large},
        )
        lived = time.monotonic() - self._opened_at
        if lived >= MIN_LIFE_SECONDS:
            self._pauses.reset()
        if lived >= MIN_LIFE_SECONDS and not failure.lasts:
            self.pause = 0.0
        elif failure.errors or failure.too_large:  # the fault of records, not of the broker
            self.pause = RETRY_SECONDS
        else:
            self.pause = next(self._pauses)

    async def _open(self) -> IdempotentProducer:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            made = await open_producer(
                self._settings, self._brokers, self._pending, self._on_failure, self._predecessor
            )
        self._opened_at = time.monotonic()
        # a topic that says itself that it takes less may say another size later
        sizes = {topic.name: topic.max_batch_bytes for topic in made.cluster.topics.values()}
        too_large = self._predecessor.too_large.items()
        self._predecessor = self._predecessor._replace(
            events_topic=made.events_topic,
            too_large={name: size for name, size in too_large if sizes[name] == size // 2},
        )
        # the next one may be opened by way of any broker of the cluster
        self._brokers = list(dict.fromkeys([*self._bootstrap, *made.cluster.nodes.values()]))
        return made
