"""The log as the topics hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from infra import kafka
from infra.log import Batch, OffTheLog
from infra.settings import Settings

WAIT_MS: Final = 500


class Topics:
    """A `infra.log.LogReader`. Errors of every method: `KafkaError`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = kafka.consumer(self._settings)
        try:
            return _bounds(consumer, TopicPartition(topic, partition))
        finally:
            consumer.close()

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        if start >= end:
            return
        consumer = kafka.consumer(self._settings, max_poll_records=size)
        try:
            tp = TopicPartition(topic, partition)
            first, last = _bounds(consumer, tp)
            if start < first or end > last:
                raise OffTheLog(
                    f"{topic} partition {partition} holds offsets {first} to {last}: asked for"
                    f" {start} to {end}"
                )
            consumer.assign([tp])
            consumer.seek(tp, start)
            while start < end:
                found = consumer.poll(WAIT_MS).get(tp, [])
                records = [record for record in found if record.offset < end]
                # a compacted log may hold nothing before its end
                reached = min(int(consumer.position(tp)), end)
                if reached > start:
                    yield batch(partition, start, reached, records)
                    start = reached
        finally:
            consumer.close()


def _bounds(consumer: KafkaConsumer, tp: TopicPartition) -> tuple[int, int]:
    return kafka.bounds(consumer, [tp])[tp]


def batch(partition: int, first: int, next_: int, records: Sequence[Any]) -> Batch:
    """What kafka-python has read of a partition, from offset `first` to before `next_`."""
    headers = [record.headers for record in records]
    return Batch(
        partition,
        first,
        next_,
        [record.offset for record in records],
        [record.timestamp for record in records],
        [record.value for record in records],
        keys=[record.key for record in records],
        headers=headers if any(headers) else [],
    )
