"""The records of a partition that wait for their request, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from infra.kafka.produce.pending import PendingAppend
from infra.kafka.produce.record_batch import (
    HEAD_BYTES,
    MAX_RECORD_OVERHEAD,
    SEQUENCES,
    ProducerId,
    RecordGroup,
    encoded,
    encoded_headers,
)
from schemas.alphabet import Millis
from schemas.record import Record

MAX_BATCH_BYTES: Final = 512 * 1024
"""Of a batch before compression, unless one record alone has more."""
REMEMBERED_SECONDS: Final = 600.0
"""A broker remembers a producer for at least so long after its last batch (`producer.id.expiration.ms` is a
day)."""


class ProducerBatch:
    """Records for one batch, as they came. They are encoded as it is sent, since its size decides on
    compression, and its sequence is known only then."""

    __slots__ = ("appends", "count", "groups", "size")

    def __init__(self) -> None:
        self.groups: list[RecordGroup] = []
        self.count = 0
        self.size = HEAD_BYTES
        """Bytes before compression, at most."""
        self.appends: list[tuple[PendingAppend, int]] = []
        """Each append with records in it, and the index of its last record."""

    def add(self, records: RecordGroup, size: int, append: PendingAppend) -> None:
        self.groups.append(records)
        self.count += len(records.records)
        self.size += size
        self.appends.append((append, self.count - 1))
        append.remaining += 1


class PartitionQueue:
    """The batches of a partition of `topic`, the broker's name of it, and the sequence of the next.

    Two batches of a partition may be under way together only where the broker is known to remember the
    sequence of this producer: it refuses the second one if it has not taken the first. Of a producer that it
    does not know it takes any sequence, so the first batch goes alone.
    """

    __slots__ = (
        "_acknowledged_at",
        "_batches",
        "in_flight",
        "max_batch_bytes",
        "partition",
        "sequence",
        "topic",
    )

    def __init__(
        self, topic: bytes, partition: int, max_batch_bytes: int = MAX_BATCH_BYTES
    ) -> None:
        self.topic, self.partition = topic, partition
        self.max_batch_bytes = max_batch_bytes
        self.sequence = 0
        self.in_flight = 0
        self._batches: deque[ProducerBatch] = deque()
        self._acknowledged_at = float("-inf")

    def __bool__(self) -> bool:
        """Whether a batch waits."""
        return bool(self._batches)

    def add(
        self, records: Sequence[Record], timestamp: Millis, headers: bytes, append: PendingAppend
    ) -> int:
        """Adds records of one append, in order; gives their bytes. `headers`: as `RecordGroup` has them."""
        batches = self._batches
        if not batches:
            batches.append(ProducerBatch())
        batch, start, size, total = batches[-1], 0, 0, 0
        for at, record in enumerate(records):
            own = encoded_headers(record.headers) if record.headers else headers
            bytes_more = len(record.key) + len(record.value) + len(own) + MAX_RECORD_OVERHEAD
            is_empty = at == start and not batch.count
            if batch.size + size + bytes_more > self.max_batch_bytes and not is_empty:
                if at > start:
                    batch.add(RecordGroup(records[start:at], timestamp, headers), size, append)
                batch, start, size, total = ProducerBatch(), at, 0, total + size
                batches.append(batch)
            size += bytes_more
        batch.add(RecordGroup(records[start:], timestamp, headers), size, append)
        return total + size

    def next_size(self, now: float) -> int:
        """Bytes of the next batch, at most; 0: none may be sent yet. `now` in s of the monotonic clock."""
        forgotten = now - self._acknowledged_at > REMEMBERED_SECONDS
        if not self._batches or (self.in_flight and forgotten):
            return 0
        return self._batches[0].size

    def take(self, producer: ProducerId) -> tuple[ProducerBatch, bytes]:
        """The next batch, under way from now on, and its bytes."""
        batch = self._batches.popleft()
        data = encoded(batch.groups, producer, self.sequence)
        self.sequence = (self.sequence + batch.count) % SEQUENCES
        self.in_flight += 1
        return batch, data

    def acknowledge(self, now: float) -> None:
        """The broker has the oldest batch under way."""
        self.in_flight -= 1
        self._acknowledged_at = now
