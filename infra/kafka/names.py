"""Topics by the names that the broker has for them: ours, with the installation's prefix before each.

Here alone the prefix goes on and comes off. Our own names (`events`, `items` …) stand everywhere else: in
code, metrics, fences, dead letters, the spool and the lake, so that neither state nor files change with it.
"""

from __future__ import annotations

from kafka import TopicPartition

from infra.settings import Settings


def broker_name(settings: Settings, topic: str) -> str:
    """What the broker calls our `topic`."""
    return settings.topic_prefix + topic


def own_name(settings: Settings, name: str) -> str:
    """What we call the broker's topic `name`: the inverse of `broker_name`.

    Errors: ValueError where `name` is another installation's.
    """
    if not name.startswith(settings.topic_prefix):
        raise ValueError(f"topic {name} does not begin with FRESHET_TOPIC_PREFIX")
    return name.removeprefix(settings.topic_prefix)


def topic_partition(settings: Settings, topic: str, partition: int) -> TopicPartition:
    """A partition of our `topic`, as kafka-python takes it."""
    return TopicPartition(broker_name(settings, topic), partition)
