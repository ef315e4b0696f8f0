"""First and next offsets of topics, as the broker says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings


def offsets(settings: Settings, topics: Iterable[str]) -> dict[str, dict[int, tuple[int, int]]]:
    """Topic -> partition -> (first offset, next offset); a topic that does not exist is left out.

    Errors: `KafkaError`.
    """
    from infra.kafka import kafka_client
    from infra.kafka.names import broker_name, own_name, topic_partition

    reader = kafka_client.consumer(settings)
    try:
        partitions = [
            topic_partition(settings, topic, partition)
            for topic in topics
            if (name := broker_name(settings, topic)) in reader.topics()
            for partition in reader.partitions_for_topic(name) or ()
        ]
        bounds = kafka_client.bounds(reader, partitions)
    finally:
        reader.close()
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for at, pair in bounds.items():
        found.setdefault(own_name(settings, at.topic), {})[at.partition] = pair
    return found
