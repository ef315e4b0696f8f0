"""The configuration of topics that exist: compared with the declared one, and mended for times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from infra.kafka import kafka_client
from infra.kafka.kafka_client import MIN_IN_SYNC, Replicas
from infra.kafka.names import broker_name
from infra.settings import BadSetting, Settings
from schemas.topics import AFTER_MAX, TOPICS, Topic

Values = Mapping[str, str]


def align(settings: Settings) -> list[str]:
    """Gives each topic the declared bound on timestamps that lie ahead. Answers a sentence for each topic
    that it changed, and for each other difference from the declared configuration, or from the replicas that
    a new topic gets.

    Those it leaves: a shorter retention would delete what an operator chose to keep, and replicas are moved
    by Kafka's own tools. Errors: none of the broker, which may forbid to read or alter configurations, and
    none for a number of replicas that it cannot give: each is a sentence, too.
    """
    try:
        client = kafka_client.admin(settings)
        try:
            names = {broker_name(settings, topic.name): topic for topic in TOPICS}
            found = _described(client, list(names))
            wanted = kafka_client.wanted_replicas(client, settings)
            sentences = [
                sentence
                for name, topic in names.items()
                for sentence in _aligned(client, name, topic, wanted, found.get(name, {}))
            ]
            return sentences + list(_replicas(client, list(names), wanted))
        finally:
            client.close()
    except BadSetting as error:
        return [str(error)]
    except KafkaError as error:
        return [f"the configuration of the topics was not compared: {type(error).__name__}"]


def _described(client: KafkaAdminClient, names: list[str]) -> dict[str, Values]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    held: dict[str, dict[str, Any]] = client.describe_configs(asked, config_filter="all")["topic"]
    return {
        name: {config: it["value"] for config, it in configs.items()}
        for name, configs in held.items()
    }


def _replicas(client: KafkaAdminClient, names: list[str], wanted: Replicas) -> Iterator[str]:
    for entry in client.describe_topics(names):
        name = entry.get("name") or entry.get("topic")
        counts = {len(it["replica_nodes"]) for it in entry["partitions"]}
        if counts and counts != {wanted.factor}:
            few = min(counts)
            yield (
                f"topic {name} has {few} replica{'s' * (few != 1)}, and a new topic gets {wanted.factor}:"
                " kafka-reassign-partitions.sh moves them"
            )


def _aligned(
    client: KafkaAdminClient, name: str, topic: Topic, wanted: Replicas, held: Values
) -> Iterator[str]:
    if not held:
        yield f"topic {name}: the broker does not tell its configuration"
        return
    if AFTER_MAX not in held:
        yield (
            f"topic {name} has no {AFTER_MAX}, which this broker does not know: it takes records of a worker"
            " whose clock is ahead, and their times count (Kafka 3.6 and newer refuse them)"
        )
    for config, declared in {**topic.config, MIN_IN_SYNC: str(wanted.in_sync)}.items():
        value = held.get(config, declared)
        if value == declared:
            continue
        if config != AFTER_MAX:
            yield f"topic {name}: {config} is {value}, and a new topic gets {declared}"
        elif refused := _set(client, name, config, declared):
            yield f"topic {name}: {config} is {value}, and {declared} was refused: {refused}"
        else:
            yield f"topic {name}: {config} is {declared} now, and was {value}"


def _set(client: KafkaAdminClient, name: str, config: str, value: str) -> str:
    """Sets one config of a topic, and no other; gives the broker's refusal, "" where there is none."""
    change = ConfigResource(ConfigResourceType.TOPIC, name, {config: value})
    result = str(client.alter_configs([change])["topic"][name])
    return "" if result == "OK" else result
