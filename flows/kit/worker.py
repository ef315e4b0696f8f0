"""The base of every flow on a topic: its fences, its dead letters, its commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from flows.kit.commit import Fenced, StoreFull, Torn, commit
from flows.kit.dead_letters import REASONS, DeadLetterProducer, letter
from flows.kit.metrics import FlowMetrics
from flows.kit.poison import Poison
from flows.kit.resume import StateMismatch, recreated, resume
from flows.kit.source import Reader
from infra.kafka.end_offsets import EndOffsets
from infra.kafka.kafka_client import ensure_topics
from infra.kafka.names import broker_name
from infra.kafka.topic_watch import TopicWatch
from infra.log_reader import Batch
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.dead_letters import DeadLetter
from schemas.state.fences import Fence
from schemas.state.write import Write
from schemas.topics import Topic

log = logging.getLogger(__name__)
MAX_LOGGED_LETTERS: Final = 20
"""Dead letters of one batch that the process log names."""


class Worker:
    """One process's partitions of one topic, for the flow `name`. It closes the `reader` that it gets.

    Errors (of the constructor, which then leaves nothing open): `resume.StateMismatch`,
    `StoreMisconfigured`, Kafka's and Redis's.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        topic: Topic,
        version: int,
        partitions: Sequence[int] = (),
        reader: Reader | None = None,
        generation: int = 0,
    ) -> None:
        self.settings, self.name, self.topic = settings, name, topic
        self.generation, self.keyspace = generation, settings.keyspace.in_generation(generation)
        with ExitStack() as opened:
            self.redis: Client = redis_client.connect(settings)
            opened.callback(self.redis.close)
            self.reader = reader or Reader(settings, topic.name)
            opened.callback(self.reader.close)
            redis_client.check(self.redis)
            info = ensure_topics(settings)[topic.name]
            self.partitions = sorted(set(partitions)) or list(range(info.partitions))
            if self.partitions[-1] >= info.partitions or self.partitions[0] < 0:
                raise StateMismatch(
                    f"topic {broker_name(settings, topic.name)} has partitions 0 to"
                    f" {info.partitions - 1}"
                )
            self.fences: dict[int, Fence] = {}
            for p, (start, end) in self.reader.bounds(self.partitions).items():
                self.fences[p] = resume(
                    self.redis, name, p, info, start, end, version, self.keyspace
                )
                log.info("%s partition %d starts at %d of %d", name, p, self.fences[p].offset, end)
            self.reader.assign({p: fence.offset for p, fence in self.fences.items()})
            limit = settings.poison_limit
            self._poison = Poison(self.redis, name, topic.name, self.fences, limit, self.keyspace)
            for p in self._poison.paused:
                self.reader.pause(p)
            self.reader.before_poll = self._before_poll
            self._letters = DeadLetterProducer(settings)
            opened.callback(self._letters.close)
            self._end_offsets = EndOffsets(settings, {topic.name: self.partitions})
            opened.callback(self._end_offsets.close)
            self._watch = TopicWatch(settings, topic.name, info)
            opened.callback(self._watch.close)
            self.metrics = FlowMetrics(settings, name, str(self.partitions[0]))
            self.metrics.expect(REASONS)
            self.metrics.at_scrape(self._report_positions)
            opened.enter_context(self.metrics.exposed())
            self._opened = opened.pop_all()

    def dead_letters(self, step: tuple[Any, list[DeadLetter]]) -> Any:
        """Sends the letters of (good, letters), then returns the good."""
        good, letters = step
        if letters:
            self.send(letters)
            self._poison.add_undecodable(letters)
        return good

    def send(self, letters: list[DeadLetter]) -> None:
        self._letters.send(letters)
        self.metrics.dead_letters_sent(letters)
        for sent in letters[:MAX_LOGGED_LETTERS]:
            log.warning("dead letter %s: %s", sent.identity, sent.reason)
        if len(letters) > MAX_LOGGED_LETTERS:
            log.warning("and %d more dead letters of this batch", len(letters) - MAX_LOGGED_LETTERS)

    def refuse(self, batch: Batch, index: int, why: str) -> None:
        """Sends record number `index` of a batch to the dead letters."""
        self.send([letter(self.topic.name, batch, index, why)])

    def next_fence(self, partition: int, next_offset: int, timestamps: Sequence[int]) -> Fence:
        """The fence after a batch that ends before offset `next_offset`. `timestamps`: of its records, ms."""
        held = self.fences[partition]
        newest = max([held.newest, *timestamps])
        return Fence(held.topic_id, held.partitions, next_offset, newest, held.version)

    def commit(self, write: Write) -> None:
        """Performs the write, then lets its partition continue.

        Errors: `Fenced`, `Torn`, `StoreFull`, `StateMismatch` where the topic was recreated, Redis's.
        """
        p = write.partition
        if other := self._watch.other:
            name = broker_name(self.settings, self.topic.name)
            raise recreated(self.name, p, name, other, self.keyspace)
        if under_way := self.reader.under_way(p):
            self._poison.count(under_way, write)
        begun = time.monotonic()
        with self.metrics.counting_failures(fenced=Fenced, torn=Torn, full=StoreFull):
            commit(self.redis, write)
        spent = time.monotonic() - begun
        self.fences[p] = write.fence
        if batch := self.reader.committed(p):
            self.metrics.committed(batch, spent, write.counts)
            if self._poison.pauses(p):
                self.reader.pause(p)
            self.between_batches(p)

    def between_batches(self, partition: int) -> None:
        """Called between two batches of a partition, also while no records come."""

    def _before_poll(self) -> None:
        for p in self._poison.resumed():
            self.reader.resume(p)
        for p in self.partitions:
            if self.reader.under_way(p) is None:
                self.between_batches(p)

    def _report_positions(self) -> None:
        """Called in the scrape's thread, so that a flow that hangs or is paused still reports its lag."""
        self.metrics.seen(self.reader.polled_at)
        end_offsets = self._end_offsets.get() or {}
        for partition, fence in self.fences.items():
            self.metrics.position(
                partition, fence.offset, end_offsets.get((self.topic.name, partition))
            )
            self.metrics.paused(partition, partition in self._poison.paused)

    def close(self) -> None:
        self._opened.close()
