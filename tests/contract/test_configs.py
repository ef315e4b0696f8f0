"""Our topics as a broker has them: made with the declared configuration, and brought to it later."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

from infra.kafka import kafka_client, topic_configs
from infra.kafka.names import broker_name
from infra.settings import BadSetting, Settings
from schemas.times import HOUR_MS
from schemas.topics import AFTER_MAX, EVENTS, TOPICS
from tests.contract.conftest import quick
from tests.contract.raw import Peer, batch, fresh, now


@pytest.fixture
def admin(bootstrap: str) -> Iterator[KafkaAdminClient]:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as client:
        yield client


def configs(admin: KafkaAdminClient, name: str) -> dict[str, str]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name)]
    held = admin.describe_configs(asked, config_filter="all")["topic"][name]
    return {config: it["value"] for config, it in held.items()}


@quick
def test_our_topics_have_their_declared_configs(bootstrap: str, admin: KafkaAdminClient) -> None:
    settings = Settings(kafka_bootstrap=bootstrap, topic_prefix=f"{fresh('p')}.")
    kafka_client.ensure_topics(settings)
    for topic in TOPICS:
        held = configs(admin, broker_name(settings, topic.name))
        assert topic.config.items() <= held.items(), topic.name
    assert topic_configs.align(settings) == []


@quick
def test_a_topic_of_before_gets_the_bound_on_times_ahead(
    bootstrap: str, admin: KafkaAdminClient, peer: Peer
) -> None:
    """Kafka from 3.6 to 3.9 gives a topic that names none no bound at all."""
    settings = Settings(kafka_bootstrap=bootstrap, topic_prefix=f"{fresh('p')}.")
    name = broker_name(settings, EVENTS.name)
    older = {AFTER_MAX: str(2**63 - 1), "retention.ms": "7200000"}
    admin.create_topics([NewTopic(name, settings.partitions, 1, topic_configs=older)])
    kafka_client.ensure_topics(settings)
    assert peer.code(name, batch([b"x"], timestamp=now() + 2 * HOUR_MS)) == 0
    kept = f"topic {name}: retention.ms is 7200000, and a new topic gets 2592000000"
    mended = f"topic {name}: {AFTER_MAX} is 3600000 now, and was 9223372036854775807"
    assert sorted(topic_configs.align(settings)) == [mended, kept]
    held = configs(admin, name)
    assert (held[AFTER_MAX], held["retention.ms"]) == ("3600000", "7200000")
    assert peer.code(name, batch([b"x"], timestamp=now() + 2 * HOUR_MS)) == 32
    assert topic_configs.align(settings) == [kept]


@quick
def test_a_broker_that_is_away_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_client, "CONNECT_SECONDS", 0.0)
    (sentence,) = topic_configs.align(Settings(kafka_bootstrap="127.0.0.1:1"))
    assert sentence.startswith("the configuration of the topics was not compared: ")


@quick
def test_replicas_that_differ_or_cannot_be_are_said(
    bootstrap: str, admin: KafkaAdminClient
) -> None:
    settings = Settings(kafka_bootstrap=bootstrap, topic_prefix=f"{fresh('p')}.")
    name = broker_name(settings, EVENTS.name)
    config = {**EVENTS.config, "min.insync.replicas": "2"}
    admin.create_topics([NewTopic(name, settings.partitions, 1, topic_configs=config)])
    kafka_client.ensure_topics(settings)
    said = f"topic {name}: min.insync.replicas is 2, and a new topic gets 1"
    assert topic_configs.align(settings) == [said]
    other = {"kafka_bootstrap": bootstrap, "topic_prefix": f"{fresh('p')}."}
    for wanted, match in (
        (
            {"kafka_replication_factor": 3},
            "^KAFKA_REPLICATION_FACTOR is 3, and the cluster has 1 br",
        ),
        (
            {"kafka_min_insync_replicas": 2},
            "^KAFKA_MIN_INSYNC_REPLICAS is 2, and a topic gets 1 repl",
        ),
    ):
        refused = Settings(**other, **wanted)  # type: ignore[arg-type]
        with pytest.raises(BadSetting, match=match):
            kafka_client.ensure_topics(refused)
        assert [re.search(match, it) is not None for it in topic_configs.align(refused)] == [True]
    assert not [it for it in admin.list_topics() if it.startswith(other["topic_prefix"])]
