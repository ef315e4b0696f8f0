"""A log that is read once and kept, for tests that walk it often."""

from __future__ import annotations

from collections.abc import Iterator

from infra.log_reader import Batch, LogReader, OffTheLog


class Recorded:
    """A `LogReader` over the records that `log` held of a topic at the start."""

    def __init__(self, log: LogReader, topic: str, partitions: int) -> None:
        self._bounds = {p: log.bounds(topic, p) for p in range(partitions)}
        self._batches = {p: list(log.read(topic, p, *bounds)) for p, bounds in self._bounds.items()}

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self._bounds[partition]

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        first, last = self._bounds[partition]
        if not first <= start <= end <= last:
            raise OffTheLog(f"partition {partition} holds offsets {first} to {last}")
        for batch in self._batches[partition]:
            keep = [n for n, offset in enumerate(batch.offsets) if start <= offset < end]
            if batch.next > start and batch.first < end:
                yield Batch(
                    partition,
                    max(start, batch.first),
                    min(end, batch.next),
                    [batch.offsets[n] for n in keep],
                    [batch.timestamps[n] for n in keep],
                    [batch.values[n] for n in keep],
                    keys=[batch.keys[n] for n in keep],
                    indexes=[batch.index(n) for n in keep] if batch.indexes else [],
                )
