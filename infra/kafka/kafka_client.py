"""Kafka as Freshet uses it: topics made on demand, exact producers, consumers that never jump."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import (
    InvalidConfigurationError,
    InvalidTopicError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from infra.kafka import security
from infra.kafka.names import broker_name
from infra.kafka.reachable import check_security
from infra.settings import BadSetting, Settings
from schemas.errors import ConfigurationError
from schemas.topics import AFTER_MAX, TOPICS, Topic

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 30.0
ATTEMPT_SECONDS: Final = 2.0
"""Of them: after so long without a broker it is asked whether it refuses us, which no waiting mends."""
RECONNECT: Final = {"reconnect_backoff_max_ms": 500}
"""Options of every client: kafka-python would wait up to 30 s, longer than most brokers are away."""
RETRY_MS: Final = 20
"""Between two requests of a client for metadata. kafka-python waits 100 ms whatever its options say, also
after its first request, which names no topic."""
MIN_IN_SYNC: Final = "min.insync.replicas"
Bounds = tuple[int, int]
_checked: Final[set[Settings]] = set()


class TopicMismatch(ConfigurationError):
    """A topic exists with another partition count than this installation's."""


class Replicas(NamedTuple):
    """Of a topic: how many of each partition, and how many must have a record that is acknowledged."""

    factor: int
    in_sync: int


class TopicInfo(NamedTuple):
    id: str
    partitions: int


def producer(settings: Settings, **options: Any) -> KafkaProducer:
    """A producer: acknowledged by all replicas, idempotent, lz4; `linger_ms` trades latency for batches.

    Errors: `KafkaError`; `KafkaSecurityError`.
    """
    made = KafkaProducer(
        **{
            **_connecting(settings),
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "linger_ms": 1,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            **options,
        }
    )
    made._metadata.config["retry_backoff_ms"] = RETRY_MS
    return made


def consumer(settings: Settings, **options: Any) -> KafkaConsumer:
    """A consumer that reads from where it is sought: falling off the log is an error, never a silent jump.

    Errors: `KafkaError`; `KafkaSecurityError`.
    """
    made = KafkaConsumer(
        **{
            **_connecting(settings),
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
            "fetch_max_wait_ms": 500,
            "max_poll_records": settings.batch,
            "max_partition_fetch_bytes": 4 << 20,
            "retry_backoff_ms": RETRY_MS,
            **options,
        }
    )
    made._cluster.config["retry_backoff_ms"] = RETRY_MS
    return made


def bounds(client: KafkaConsumer, places: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
    """First offset and end offset of each partition, in two requests for all of them."""
    first, end = client.beginning_offsets(list(places)), client.end_offsets(list(places))
    return {place: (first[place], end[place]) for place in places}


def admin(settings: Settings) -> KafkaAdminClient:
    """An admin client; waits up to `CONNECT_SECONDS` for a broker. Errors: `KafkaError`;
    `KafkaSecurityError`, at once."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        seconds = min(until - time.monotonic(), ATTEMPT_SECONDS)
        try:
            return admin_client(settings, bootstrap_timeout_ms=max(1, int(1000 * seconds)))
        except KafkaError:
            check_security(settings)
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def admin_client(settings: Settings, **options: Any) -> KafkaAdminClient:
    """An admin client, made in one attempt. Errors: `KafkaError`; `KafkaSecurityError`."""
    made = KafkaAdminClient(**_connecting(settings), **options)
    made._manager.cluster.config["retry_backoff_ms"] = RETRY_MS
    return made


def _connecting(settings: Settings) -> dict[str, Any]:
    """Options of every client. Before the first one of a process it is asked whether a broker refuses us:
    kafka-python would try again and again. Errors: `KafkaSecurityError`."""
    if settings not in _checked:
        _checked.add(settings)
        check_security(settings)
    return {
        "bootstrap_servers": settings.kafka_bootstrap,
        **security.client_options(settings),
        **RECONNECT,
    }


def ensure_topics(settings: Settings) -> dict[str, TopicInfo]:
    """Creates the topics that are missing; answers id and partition count of each, by our name.

    Errors: `TopicMismatch` where a topic exists with another count; `BadSetting` where the broker has a topic
    whose name differs in '.' and '_' alone, or fewer brokers than replicas are asked for.
    """
    client = admin(settings)
    try:
        existing = set(client.list_topics())
        missing = {broker_name(settings, it.name): it for it in TOPICS}
        missing = {name: topic for name, topic in missing.items() if name not in existing}
        if missing:
            replicas = wanted_replicas(client, settings)
            for name, topic in missing.items():
                _create(client, name, topic, settings.partitions, replicas)
        found = _await_described(client, settings)
    finally:
        client.close()
    for topic in TOPICS:
        wanted, count = topic.partitions or settings.partitions, found[topic.name].partitions
        if wanted != count:
            raise TopicMismatch(
                f"topic {broker_name(settings, topic.name)} has {count} partitions, FRESHET_PARTITIONS"
                f" says {wanted}, and the count is for life",
                remedy="give the topic's count, or make a new topic and rebuild",
            )
    return found


def describe(client: KafkaAdminClient, names: list[str]) -> dict[str, TopicInfo]:
    """Topic id and partition count of those of `names` that exist."""
    found = {}
    for entry in client.describe_topics(names):
        if not entry.get("error_code"):
            name = entry.get("name") or entry.get("topic")
            found[name] = TopicInfo(str(entry.get("topic_id")), len(entry["partitions"]))
    return found


def _await_described(client: KafkaAdminClient, settings: Settings) -> dict[str, TopicInfo]:
    """All of `TOPICS`: Kafka acknowledges a new topic a little before every broker knows it."""
    names = [broker_name(settings, topic.name) for topic in TOPICS]
    until = time.monotonic() + CONNECT_SECONDS
    while len(found := describe(client, names)) < len(names):
        if time.monotonic() > until:
            missing = ", ".join(sorted(set(names) - set(found)))
            raise UnknownTopicOrPartitionError(f"not there after their creation: {missing}")
        time.sleep(0.05)
    return {topic.name: found[name] for topic, name in zip(TOPICS, names, strict=True)}


def wanted_replicas(client: KafkaAdminClient, settings: Settings) -> Replicas:
    """Replicas of a topic that is made now. Errors: `BadSetting` where there are too few brokers."""
    brokers = len(client.describe_cluster()["brokers"])
    count = settings.kafka_replication_factor or (3 if brokers >= 3 else 1)
    in_sync = settings.kafka_min_insync_replicas or (2 if count >= 3 else 1)
    if count > brokers:
        raise BadSetting(
            f"KAFKA_REPLICATION_FACTOR is {count}, and the cluster has {brokers}"
            f" broker{'s' * (brokers != 1)}: leave it out, or add brokers"
        )
    if in_sync > count:
        raise BadSetting(
            f"KAFKA_MIN_INSYNC_REPLICAS is {in_sync}, and a topic gets {count}"
            f" replica{'s' * (count != 1)} here, so that no record would be acknowledged: set"
            " KAFKA_REPLICATION_FACTOR, too"
        )
    return Replicas(count, in_sync)


def _create(
    client: KafkaAdminClient, name: str, topic: Topic, partitions: int, replicas: Replicas
) -> None:
    config = {**topic.config, MIN_IN_SYNC: str(replicas.in_sync)}
    new = NewTopic(
        name=name,
        num_partitions=topic.partitions or partitions,
        replication_factor=replicas.factor,
        topic_configs=config,
    )
    try:
        try:
            client.create_topics([new])
        except InvalidConfigurationError:  # Kafka before 3.6 does not know it
            del new.topic_configs[AFTER_MAX]
            client.create_topics([new])
            log.warning(
                "topic %s was made without %s, which this broker does not know: it takes records of a"
                " worker whose clock is ahead, and their times count (Kafka 3.6 and newer refuse them)",
                name,
                AFTER_MAX,
            )
    except TopicAlreadyExistsError:  # another process was first
        return
    except InvalidTopicError:
        raise BadSetting(
            f"topic {name} cannot be made, since the broker has one whose name differs in '.' and '_' alone:"
            " give FRESHET_TOPIC_PREFIX another value"
        ) from None
