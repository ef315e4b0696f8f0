"""What one fetch brings of all partitions of a worker, each read from its fence; the next fetch's follows the
commit of all that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from infra.frames import cut, spread
from infra.kafka.consume import log_bounds
from infra.kafka.consume.consumer import Consumer
from infra.kafka.fetch import Records
from infra.kafka.kafka_client import CONNECT_SECONDS, Bounds
from infra.kafka.names import broker_name
from infra.log_reader import Batch
from infra.settings import Settings

POLL_SECONDS: Final = 0.1
"""A poll returns with the first record, so it adds no latency; it bounds how long a stop takes."""


@dataclass
class Reader:
    """Reads all partitions of a worker in the worker's own thread."""

    settings: Settings
    topic: str
    stop: threading.Event = field(default_factory=threading.Event)
    until_end: bool = False
    """Stop at the end offsets that the log had at the start, instead of following it."""

    before_poll: Callable[[], None] = lambda: None
    """Called before each poll, between batches: for other work of the same thread."""

    def __post_init__(self) -> None:
        name = broker_name(self.settings, self.topic)
        self.consumer = Consumer(self.settings, name, self.settings.batch)
        self.position: dict[int, int] = {}
        """Where the next batch of each partition begins."""
        self.end: dict[int, int] = {}
        self.polled_at = time.time()
        """When the log was last polled, Unix time in s."""
        self._waiting: dict[int, Iterator[Batch]] = {}
        """Fetched and not yet returned."""
        self._uncommitted: dict[int, Batch] = {}
        self._paused: set[int] = set()
        self._dropped: set[int] = set()

    def assign(self, positions: dict[int, int]) -> None:
        """Starts each partition at its offset: partition -> offset."""
        for p, offset in positions.items():
            self.seek(p, offset)
        if self.until_end:
            self.end = {p: end for p, (_, end) in self.bounds(positions).items()}

    def bounds(
        self, partitions: Iterable[int], seconds: float = CONNECT_SECONDS
    ) -> dict[int, Bounds]:
        """First offset and end of each partition's log. A broker that is away is asked again for `seconds`.

        Errors: `KafkaError`, `KafkaSecurityError`.
        """
        name = broker_name(self.settings, self.topic)
        return log_bounds.bounds(self.settings, name, list(partitions), seconds)

    def next(self) -> list[Batch]:
        """The next batch of each partition that has one, by partition; [] where none came for a while, or one
        that was returned is neither committed nor dropped.

        Errors: StopIteration once `stop` is set, or at the end; those of `Consumer.poll`.
        """
        if self.stop.is_set():
            raise StopIteration
        if self._uncommitted:
            return []
        if batches := self._batches():
            return batches
        if self.until_end and all(map(self._is_at_end, self.position)):
            raise StopIteration
        self.before_poll()
        for p, records in self.consumer.poll(POLL_SECONDS).items():
            self._waiting[p] = self._spread(p, records)
        self.polled_at = time.time()
        return self._batches()

    def pause(self, partition: int) -> None:
        """Stops reading this partition at its position; the others continue."""
        self._paused.add(partition)
        self._waiting.pop(partition, None)
        self.consumer.seek(partition, self.position[partition])
        self.consumer.pause(partition)

    def resume(self, partition: int) -> None:
        self._paused.discard(partition)
        self.consumer.resume(partition)

    def seek(self, partition: int, offset: int) -> None:
        """Starts the partition again at `offset`: what was fetched of it is dropped, and what was returned
        counts as not read."""
        self._dropped.discard(partition)
        self.position[partition] = offset
        self._waiting.pop(partition, None)
        self._uncommitted.pop(partition, None)
        self.consumer.seek(partition, offset)

    def drop(self, partition: int) -> None:
        """Reads the partition no more until it is sought."""
        self._dropped.add(partition)
        self._waiting.pop(partition, None)
        self._uncommitted.pop(partition, None)
        self.consumer.drop(partition)

    def under_way(self, partition: int) -> Batch | None:
        """The batch that was returned and is not committed yet, or None."""
        return self._uncommitted.get(partition)

    def committed(self, partition: int) -> Batch | None:
        """Lets the partition continue. Returns the batch that was committed, or None."""
        return self._uncommitted.pop(partition, None)

    def close(self) -> None:
        self.consumer.close()

    def _batches(self) -> list[Batch]:
        """One batch each of what was fetched."""
        made = []
        for p in sorted(self._waiting):
            batch = next(self._waiting[p], None)
            if batch is None:
                del self._waiting[p]
                continue
            self.position[p] = batch.next
            self._uncommitted[p] = batch
            made.append(batch)
        return made

    def _spread(self, partition: int, fetched: Iterator[Records]) -> Iterator[Batch]:
        """What was fetched from the position on, in batches that chain."""
        first, size = self.position[partition], self.settings.batch
        for records in fetched:
            for piece in records.chunks(size):
                batch = piece.batch(partition, first)
                first = batch.next
                yield from cut(spread(self.topic, batch), size)

    def _is_at_end(self, partition: int) -> bool:
        if partition in self._paused or partition in self._dropped:
            return True
        # a log may end with what is no record: marks of transactions, and gaps of compaction
        return self.consumer.position(partition) >= self.end[partition]


class _Partition(StatefulSourcePartition[Any, None]):
    def __init__(self, reader: Reader, is_joint: bool) -> None:
        self._reader, self._is_joint = reader, is_joint

    def next_batch(self) -> list[Any]:
        batches = self._reader.next()
        return [batches] if self._is_joint and batches else batches

    def snapshot(self) -> None:
        return None  # the fence in Redis is the position; the engine stores nothing


class Source(FixedPartitionedSource[Any, None]):
    """The engine's source: one partition of it, for all that `reader` reads. `is_joint`: its item is what one
    fetch brought, a list of batches; otherwise each batch is an item."""

    def __init__(self, reader: Reader, *, is_joint: bool = False) -> None:
        self._reader, self._is_joint = reader, is_joint

    def list_parts(self) -> list[str]:
        return ["log"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Partition:
        return _Partition(self._reader, self._is_joint)
