"""Batches of each partition, read from its fence; the next one follows the commit of the one before."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from kafka import KafkaConsumer

from infra.kafka import fetch, kafka_client
from infra.kafka.fetch import Records
from infra.kafka.names import topic_partition
from infra.log_reader import Batch
from infra.settings import Settings

POLL_MS: Final = 100
"""A blocking poll returns with the first record, so it adds no latency; it bounds how long a stop takes."""


@dataclass
class Reader:
    """One consumer for all partitions of a worker."""

    settings: Settings
    topic: str
    stop: threading.Event = field(default_factory=threading.Event)
    until_end: bool = False
    """Stop at the end offsets that the log had at the start, instead of following it."""
    poll_ms: int = POLL_MS

    before_poll: Callable[[], None] = lambda: None
    """Called before each poll, between batches: for other work of the same thread."""

    def __post_init__(self) -> None:
        self.consumer: KafkaConsumer = fetch.consumer(self.settings)
        self.position: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.polled_at = time.time()
        """When the log was last polled, Unix time in s."""
        self._waiting: dict[int, deque[Records]] = {}
        """Fetched and not yet returned, each at most a batch long."""
        self._uncommitted: dict[int, Batch] = {}
        self._paused: set[int] = set()

    def assign(self, positions: dict[int, int]) -> None:
        """Starts each partition at its offset: partition -> offset."""
        self.position = dict(positions)
        topics = {p: topic_partition(self.settings, self.topic, p) for p in positions}
        self.consumer.assign(list(topics.values()))
        for p, offset in positions.items():
            self.consumer.seek(topics[p], offset)
        if self.until_end:
            self.end = {
                tp.partition: o
                for tp, o in self.consumer.end_offsets(list(topics.values())).items()
            }

    def bounds(self, partitions: Iterable[int]) -> dict[int, kafka_client.Bounds]:
        """First offset and end of each partition's log."""
        topic_partitions = [topic_partition(self.settings, self.topic, p) for p in partitions]
        bounds = kafka_client.bounds(self.consumer, topic_partitions)
        return {tp.partition: its for tp, its in bounds.items()}

    def next(self, partition: int) -> Batch | None:
        """The next batch; None where there is none yet, or the one before is uncommitted.

        Errors: StopIteration once `stop` is set, or at the end.
        """
        if self.stop.is_set():
            raise StopIteration
        if partition in self._uncommitted:
            return None
        at_end = self.until_end and self.position[partition] >= self.end[partition]
        if at_end or (self.until_end and partition in self._paused):
            raise StopIteration
        if not self._waiting:
            self.before_poll()
            # the engine polls every partition before a batch reaches its commit: a wait would delay it
            wait = 0 if self._uncommitted else self.poll_ms
            for tp, fetched in self.consumer.poll(wait).items():
                chunks = (
                    chunk for records in fetched for chunk in records.chunks(self.settings.batch)
                )
                self._waiting[tp.partition] = deque(chunks)
            self.polled_at = time.time()
        waiting = self._waiting.get(partition)
        if not waiting:
            return None
        batch = waiting.popleft().batch(partition, self.position[partition])
        if not waiting:
            del self._waiting[partition]
        self.position[partition] = batch.next
        self._uncommitted[partition] = batch
        return batch

    def pause(self, partition: int) -> None:
        """Stops reading this partition at its position; the others continue."""
        at = topic_partition(self.settings, self.topic, partition)
        self._waiting.pop(partition, None)
        self.consumer.seek(at, self.position[partition])
        self.consumer.pause(at)
        self._paused.add(partition)

    def resume(self, partition: int) -> None:
        self.consumer.resume(topic_partition(self.settings, self.topic, partition))
        self._paused.discard(partition)

    def under_way(self, partition: int) -> Batch | None:
        """The batch that was returned and is not committed yet, or None."""
        return self._uncommitted.get(partition)

    def committed(self, partition: int) -> Batch | None:
        """Lets the partition continue. Returns the batch that was committed, or None."""
        return self._uncommitted.pop(partition, None)


class _Partition(StatefulSourcePartition[Any, None]):
    def __init__(self, reader: Reader, partition: int) -> None:
        self._reader, self._partition = reader, partition

    def next_batch(self) -> list[Any]:
        batch = self._reader.next(self._partition)
        return [] if batch is None else [batch]

    def snapshot(self) -> None:
        return None  # the fence in Redis is the position; the engine stores nothing


class Source(FixedPartitionedSource[Any, None]):
    """The engine's source: one partition of it per partition of the topic, all read by one `Reader`."""

    def __init__(self, reader: Reader, partitions: list[int]) -> None:
        self._reader, self._partitions = reader, partitions

    def list_parts(self) -> list[str]:
        return [str(p) for p in self._partitions]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Partition:
        return _Partition(self._reader, int(for_part))
