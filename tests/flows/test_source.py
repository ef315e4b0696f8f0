"""A worker reads its partitions, and waits for none of them while it holds records."""

from __future__ import annotations

from typing import Any

from flows.kit.source import Reader
from infra.kafka import kafka_client
from infra.log_reader import Batch
from infra.settings import Settings
from schemas.topics import EVENTS


def read(reader: Reader, partition: int) -> Batch:
    while (batch := reader.next(partition)) is None:
        pass
    return batch


def test_records_that_were_read_never_wait_for_another_partition(settings: Settings) -> None:
    """The engine asks every partition before a batch goes on to its commit."""
    reader = Reader(settings, EVENTS.name)
    reader.assign(dict.fromkeys(range(settings.partitions), 0))
    producer = kafka_client.producer(settings)
    producer.send(EVENTS.name, value=b"{}", partition=0).get(10)
    poll: Any = reader.consumer.poll
    waits: list[int] = []

    def noted(ms: int, **more: Any) -> Any:
        waits.append(ms)
        return poll(ms, **more)

    reader.consumer.poll = noted
    try:
        batch = read(reader, 0)
        assert (batch.first, batch.next, waits[-1]) == (0, 1, reader.poll_ms)
        waits.clear()
        assert all(reader.next(p) is None for p in range(settings.partitions))
        assert waits == [0] * (settings.partitions - 1)  # and partition 0 is not asked again
        reader.committed(0)
        assert reader.next(1) is None
        assert waits[-1] == reader.poll_ms
    finally:
        producer.close()
        reader.consumer.close()
