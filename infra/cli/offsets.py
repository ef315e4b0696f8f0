"""First and next offsets of topics, straight from Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings


def offsets(settings: Settings, topics: Iterable[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """Topic -> partition -> (first offset, next offset); a topic that isn't there is left out."""
    from kafka import TopicPartition

    from infra.kafka import consumer

    reader = consumer(settings)
    try:
        parts = [
            TopicPartition(topic, partition)
            for topic in topics
            if topic in reader.topics()
            for partition in reader.partitions_for_topic(topic) or ()
        ]
        first, end = reader.beginning_offsets(parts), reader.end_offsets(parts)
    finally:
        reader.close()
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for part in parts:
        found.setdefault(part.topic, {})[part.partition] = (first[part], end[part])
    return found
