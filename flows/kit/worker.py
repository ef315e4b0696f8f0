"""The base of every flow on a topic: its fences, its dead letters, its commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar

from flows.kit.commit import Fenced, StoreFull, Torn, commit_all
from flows.kit.dead_letters import REASONS, DeadLetterProducer, letter
from flows.kit.metrics import FlowMetrics
from flows.kit.poison import Poison
from flows.kit.resume import StateMismatch, recreated, resume, resumed
from flows.kit.source import Reader
from flows.kit.taken_out import FAULTS, TakenOut
from infra import logs
from infra.kafka.consume import log_bounds
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
letter_log = logs.paced(f"{__name__}.dead_letters")
Given = TypeVar("Given")
Made = TypeVar("Made")
"""Dead letters of one batch that the process log names."""
COUNTED: Final = {"fenced": Fenced, "torn": Torn, "full": StoreFull}
"""Faults that have a counter, by the word in its name."""


class Worker:
    """One process's partitions of one topic, for the flow `name`. It closes the `reader` that it gets.

    What befalls one partition takes it out: its reader and its caches drop it, it comes back from its fence
    by itself, and the others go on. A run up to the log's end raises it, once the others are committed.

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
        readable: Sequence[int] = (),
    ) -> None:
        """`version`: of the flow's fold; `readable`: those of the state that it goes on from, too."""
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
            self._info, self._version, self._readable = info, version, readable
            self.fences: dict[int, Fence] = {}
            self._bounds: dict[int, tuple[int, int]] = {}
            self.out = TakenOut(name, self._resumed)
            limit = settings.poison_limit
            self._poison = Poison(self.redis, name, topic.name, limit, self.keyspace)
            self._start()
            self.reader.assign({p: fence.offset for p, fence in self.fences.items()})
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
        if letters:
            first, more = letters[0], f", and {len(letters) - 1} more" if letters[1:] else ""
            letter_log.warning("dead letter %s: %s%s", first.identity, first.reason, more)

    def refuse(self, batch: Batch, index: int, why: str) -> None:
        """Sends record number `index` of a batch to the dead letters."""
        self.send([letter(self.topic.name, batch, index, why)])

    def next_fence(self, partition: int, next_offset: int, timestamps: Sequence[int]) -> Fence:
        """The fence after a batch that ends before offset `next_offset`. `timestamps`: of its records, ms."""
        held = self.fences[partition]
        newest = max([held.newest, *timestamps])
        return Fence(held.topic_id, held.partitions, next_offset, newest, held.version)

    def commit(self, writes: list[Write]) -> None:
        """Performs the writes, one of each partition at most, then lets their partitions continue.

        Errors: `StateMismatch` where the topic was recreated, Redis's. In a run up to the log's end those of
        one partition: `Fenced`, `Torn`, `StoreFull` and others of `FAULTS`.
        """
        if other := self._watch.other:
            name = broker_name(self.settings, self.topic.name)
            raise recreated(self.name, writes[0].partition, name, other, self.keyspace)
        writes = [write for write in writes if write.partition not in self.out]
        for write in writes:
            write.after = self.fences[write.partition]
            if under_way := self.reader.under_way(write.partition):
                self._poison.count(under_way, write)
        begun = time.monotonic()
        failed = commit_all(self.redis, writes)
        spent = time.monotonic() - begun
        batches = list[tuple[Batch, dict[str, int]]]()
        for write in writes:
            p = write.partition
            if p in failed:
                continue
            self.fences[p] = write.fence
            if batch := self.reader.committed(p):
                batches.append((batch, write.counts))
        if batches:
            self.metrics.committed(batches, spent)
        for batch, _ in batches:
            self._go_beyond(batch.partition)
        for p, error in failed.items():
            self.take_out(p, error)

    def _go_beyond(self, partition: int) -> None:
        """What follows the commit of a batch."""
        if self._poison.pauses(partition):
            self.reader.pause(partition)
        self._work_between(partition)

    def _work_between(self, partition: int) -> None:
        try:
            self.between_batches(partition)
        except FAULTS as error:
            self._on_fault(partition, error)

    def between_batches(self, partition: int) -> None:
        """Called between two batches of a partition, also while no records come."""

    def begin(self, partition: int, fence: Fence) -> None:
        """Called where the partition, which was out, starts again at `fence`. Errors: `FAULTS`, Redis's."""

    def forget(self, partition: int) -> None:
        """Called where the partition is taken out: what is held of it in memory may be wrong."""

    @contextmanager
    def taking_out(self, partition: int) -> Iterator[None]:
        """A fault inside of the context takes the partition out."""
        try:
            yield
        except FAULTS as error:
            self._on_fault(partition, error)

    def _on_fault(self, partition: int, error: Exception) -> None:
        if redis_client.is_away(error):
            raise error
        self.take_out(partition, error)

    def guarded(
        self, step: Callable[[Given], Made], partition_of: Callable[[Given], int]
    ) -> Callable[[Given], Made | None]:
        """The step, which answers None where a fault takes the partition out, or it is out already."""

        def guarded_step(item: Given) -> Made | None:
            p = partition_of(item)
            if p in self.out:
                return None
            try:
                return step(item)
            except FAULTS as error:
                self._on_fault(p, error)
                return None

        return guarded_step

    def take_out(self, partition: int, error: Exception) -> None:
        """Drops what is held of the partition until it is back. Errors: `error`, up to the log's end."""
        for why, kind in COUNTED.items():
            if isinstance(error, kind):
                self.metrics.failed(why)
        if self.reader.until_end:
            raise error
        self.reader.drop(partition)
        self._poison.forget(partition)
        self.forget(partition)
        self.out.add(partition, error)

    def _start(self) -> None:
        """Finds the fences to start from. Errors: `StateMismatch` where no partition has one."""
        bounds = self.reader.bounds(self.partitions)
        if self.reader.until_end:
            for p, (start, end) in bounds.items():
                where = (self.redis, self.name, p, self._info, start, end)
                self.fences[p] = resume(*where, self._version, self.keyspace, self._readable)
                self._poison.begin(p, self.fences[p])
        else:
            self._bounds = dict(bounds)
            self.out.start(self.partitions)
            self.fences |= self.out.back()
            self._bounds = {}
            self._refuse_all()
        for p, fence in self.fences.items():
            log.info("%s partition %d starts at %d of %d", self.name, p, fence.offset, bounds[p][1])

    def _resumed(self, partition: int) -> Iterator[Fence | None]:
        def bounds() -> tuple[int, int]:
            known = self._bounds.pop(partition, None)
            if known is not None:
                return known
            # asked once: a broker that is away must not hold up a stop
            topic = broker_name(self.settings, self.topic.name)
            return log_bounds.bounds(self.settings, topic, [partition], 0.0)[partition]

        where = (self.redis, self.name, partition, self._info)
        for fence in resumed(*where, bounds, self._version, self.keyspace, self._readable):
            if fence is not None:
                self._poison.begin(partition, fence)
            yield fence

    def _refuse_all(self) -> None:
        """Errors: `StateMismatch` where that keeps every partition out: an operator has to mend it."""
        if error := self.out.mismatch_of_all(len(self.partitions)):
            raise error

    def _before_poll(self) -> None:
        for p, fence in self.out.back().items():
            self._go_on(p, fence)
        self._refuse_all()
        for p in self._poison.resumed():
            self.reader.resume(p)
        for p in self.fences:
            if p not in self.out and self.reader.under_way(p) is None:
                self._work_between(p)

    def _go_on(self, partition: int, fence: Fence) -> None:
        """Starts the partition again, where it was out."""
        self.fences[partition] = fence
        with self.taking_out(partition):
            self.begin(partition, fence)
            self.reader.resume(partition)  # poison had paused it, maybe
            self.reader.seek(partition, fence.offset)
            if partition in self._poison.paused:
                self.reader.pause(partition)
            log.info("%s partition %d goes on at %d", self.name, partition, fence.offset)

    def _report_positions(self) -> None:
        """Called in the scrape's thread, so that a flow that hangs or is paused still reports its lag."""
        self.metrics.seen(self.reader.polled_at)
        end_offsets = self._end_offsets.get() or {}
        for partition, fence in self.fences.items():
            self.metrics.position(
                partition, fence.offset, end_offsets.get((self.topic.name, partition))
            )
            self.metrics.paused(partition, partition in self._poison.paused)
        for partition in self.partitions:
            self.metrics.out(partition, partition in self.out)

    def close(self) -> None:
        self._opened.close()
