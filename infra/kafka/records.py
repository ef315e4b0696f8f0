"""A topic's records as they come, decoded for people and machines."""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from infra.settings import Settings


READABLE_TOPICS: Final = ("events", "items", "control", "slates", "experiments", "dead-letters")


def records(
    settings: Settings, topic: str, from_beginning: bool, until_end: bool = False, last: int = 0
) -> Iterator[dict[str, Any]]:
    """Records as they come, each with its decoded value, before them the `last` of each partition.
    Ends when nobody reads our output, or, with `until_end`, at what is the end when it starts."""
    from infra.kafka.kafka_client import consumer
    from infra.kafka.names import broker_name, topic_partition

    reader = consumer(settings, max_poll_records=500)
    try:
        name = broker_name(settings, topic)
        parts = [
            topic_partition(settings, topic, at) for at in reader.partitions_for_topic(name) or ()
        ]
        reader.assign(parts)
        ends = reader.end_offsets(parts)
        least = reader.beginning_offsets(parts)
        for part in parts:
            start = least[part] if from_beginning else max(least[part], ends[part] - last)
            reader.seek(part, start)
        while not _output_closed():
            if until_end and all(reader.position(part) >= ends[part] for part in parts):
                return
            batches = reader.poll(timeout_ms=200)
            found = [record for batch in batches.values() for record in batch]
            # partitions have no order among each other: show what came together by time
            for record in sorted(found, key=lambda it: (it.timestamp, it.partition, it.offset)):
                yield _decoded(topic, record)
    finally:
        reader.close()


def _decoded(topic: str, record: Any) -> dict[str, Any]:
    value: Any = record.value
    if value is not None:
        try:
            value = json.loads(value)
        except ValueError:
            value = bytes(value).hex()
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key.decode(errors="replace") if record.key is not None else None,
        "headers": {
            name: None if held is None else held.decode(errors="replace")
            for name, held in record.headers
        },
        "value": value,
    }


def _output_closed() -> bool:
    """Whether the reader of our output has gone (`| head`): else we would wait for the next record
    to find out."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return bool(poll.poll(0))
    except (OSError, ValueError):  # no descriptor: a test's capture
        return False
