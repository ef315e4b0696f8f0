"""First and next offsets of topics, straight from Kafka."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings


def offsets(settings: Settings, topics: Iterable[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """Topic -> partition -> (first offset, next offset); a topic that isn't there is left out."""
    from infra.kafka import kafka_client
    from infra.kafka.names import broker_name, own_name, topic_partition

    reader = kafka_client.consumer(settings)
    try:
        parts = [
            topic_partition(settings, topic, partition)
            for topic in topics
            if (name := broker_name(settings, topic)) in reader.topics()
            for partition in reader.partitions_for_topic(name) or ()
        ]
        bounds = kafka_client.bounds(reader, parts)
    finally:
        reader.close()
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for part, its in bounds.items():
        found.setdefault(own_name(settings, part.topic), {})[part.partition] = its
    return found
