"""Records of a topic as they come, decoded for people and programs."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from infra.settings import Settings


READABLE_TOPICS: Final = (
    "events",
    "items",
    "control",
    "slates",
    "experiments",
    "dead-letters",
    "audit",
)


def records(
    settings: Settings, topic: str, from_beginning: bool, until_end: bool = False, last: int = 0
) -> Iterator[dict[str, Any]]:
    """Records as they come, each with its decoded value, those of a frame one by one; first the `last`
    records of each partition (a frame is one there).

    Returns once the reader of our standard output has gone. With `until_end` it returns at the end offsets of
    the moment when it starts. Errors: `KafkaError`.
    """
    from infra.kafka import kafka_client
    from infra.kafka.names import broker_name, topic_partition

    reader = kafka_client.consumer(settings, max_poll_records=500)
    try:
        name = broker_name(settings, topic)
        partitions = [
            topic_partition(settings, topic, at) for at in reader.partitions_for_topic(name) or ()
        ]
        reader.assign(partitions)
        bounds = kafka_client.bounds(reader, partitions)
        for at, (first, end) in bounds.items():
            reader.seek(at, first if from_beginning else max(first, end - last))
        while not _output_closed():
            if until_end and all(reader.position(at) >= end for at, (_, end) in bounds.items()):
                return
            batches = reader.poll(timeout_ms=200)
            polled = [record for batch in batches.values() for record in batch]
            # partitions have no order among each other: records of one poll are shown by time
            for record in sorted(polled, key=lambda it: (it.timestamp, it.partition, it.offset)):
                yield from _singles(topic, record)
    finally:
        reader.close()


def _singles(topic: str, record: Any) -> Iterator[dict[str, Any]]:
    """The record, or those of the frame that it is."""
    from infra.frames import spread
    from infra.log_reader import Batch

    partition, offset, timestamp = record.partition, record.offset, record.timestamp
    batch = Batch(
        partition,
        offset,
        offset + 1,
        [offset],
        [timestamp],
        [record.value],
        keys=[record.key],
        headers=[tuple(record.headers)],
    )
    batch = spread(topic, batch)
    for n, value in enumerate(batch.stored_values()):
        key = batch.keys[n]
        yield {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "index": batch.index(n),
            "timestamp": timestamp,
            "key": key.decode(errors="replace") if key is not None else None,
            "headers": {
                name: None if content is None else content.decode(errors="replace")
                for name, content in batch.headers[n]
            },
            "value": None if value is None else _decoded(value),
        }


def _decoded(value: bytes) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return bytes(value).hex()


def _output_closed() -> bool:
    """Whether the reader of our standard output has gone (`| head`): a write shows it one record later."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # no descriptor: a test's capture
        return False
