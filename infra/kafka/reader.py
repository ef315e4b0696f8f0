"""The log, read back from the topics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kafka import KafkaConsumer, TopicPartition

from infra.frames import cut, spread
from infra.kafka import fetch, kafka_client
from infra.kafka.names import topic_partition
from infra.log_reader import Batch, OffTheLog
from infra.settings import Settings

POLL_MS: Final = 500


class Topics:
    """An `infra.log_reader.LogReader` of the topics. Errors of every method: `KafkaError`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        consumer = kafka_client.consumer(self._settings)
        try:
            return _bounds(consumer, topic_partition(self._settings, topic, partition))
        finally:
            consumer.close()

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        if start >= end:
            return
        consumer = fetch.consumer(self._settings)
        try:
            tp = topic_partition(self._settings, topic, partition)
            first, last = _bounds(consumer, tp)
            if start < first or end > last:
                raise OffTheLog(
                    f"{tp.topic} partition {partition} holds offsets {first} to {last}: asked for"
                    f" {start} to {end}"
                )
            consumer.assign([tp])
            consumer.seek(tp, start)
            while start < end:
                for fetched in consumer.poll(POLL_MS).get(tp, []):
                    for records in fetched.before(end).chunks(size):
                        if records.offsets:
                            batch = records.batch(partition, start)
                            start = batch.next
                            yield from cut(spread(topic, batch), size)
                # a compacted log may hold nothing before its end
                reached = min(int(consumer.position(tp)), end)
                if reached > start:
                    yield Batch(partition, start, reached, [], [], [])
                    start = reached
        finally:
            consumer.close()


def _bounds(consumer: KafkaConsumer, tp: TopicPartition) -> tuple[int, int]:
    return kafka_client.bounds(consumer, [tp])[tp]
