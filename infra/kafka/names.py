"""Names of topics on the broker: our names, with the installation's prefix before each.

This module alone adds and removes the prefix. Everything else has our own names (`events`, `items` …): code,
metrics, fences, dead letters, the spool and the lake. So neither state nor files change with the prefix.
"""

from __future__ import annotations

from kafka import TopicPartition

from infra.settings import Settings


def broker_name(settings: Settings, topic: str) -> str:
    """The broker's name of our `topic`."""
    return settings.topic_prefix + topic


def own_name(settings: Settings, name: str) -> str:
    """Our name of the broker's topic `name`: the inverse of `broker_name`.

    Errors: ValueError where `name` lacks this installation's prefix.
    """
    if not name.startswith(settings.topic_prefix):
        raise ValueError(f"topic {name} does not begin with FRESHET_TOPIC_PREFIX")
    return name.removeprefix(settings.topic_prefix)


def topic_partition(settings: Settings, topic: str, partition: int) -> TopicPartition:
    """A partition of our `topic`, as kafka-python takes it."""
    return TopicPartition(broker_name(settings, topic), partition)
