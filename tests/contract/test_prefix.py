"""Installations beside each other, by a prefix of their topics' names."""

from __future__ import annotations

import pytest
from kafka import KafkaAdminClient

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.kafka.reader import Topics
from infra.settings import BadSetting, Settings
from schemas.topics import EVENTS, TOPICS
from tests.contract.raw import fresh


def test_two_prefixes_are_two_sets_of_topics(bootstrap: str) -> None:
    shops = [Settings(kafka_bootstrap=bootstrap, topic_prefix=f"{fresh('p')}.") for _ in range(2)]
    found = [kafka_client.ensure_topics(it) for it in shops]
    assert not {it.id for it in found[0].values()} & {it.id for it in found[1].values()}
    assert found == [kafka_client.ensure_topics(it) for it in shops]
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        made = {broker_name(it, topic.name) for it in shops for topic in TOPICS}
        assert made <= set(admin.list_topics())
    for settings in shops:
        with kafka_client.producer(settings) as producer:
            value = settings.topic_prefix.encode()
            producer.send(broker_name(settings, EVENTS.name), value, partition=1).get(20)
    for settings in shops:
        (batch,) = Topics(settings).read(EVENTS.name, 1, *Topics(settings).bounds(EVENTS.name, 1))
        assert batch.values == [settings.topic_prefix.encode()]


def test_prefixes_that_differ_in_dot_and_underscore_are_one(bootstrap: str) -> None:
    word = fresh("p")
    kafka_client.ensure_topics(Settings(kafka_bootstrap=bootstrap, topic_prefix=f"{word}."))
    with pytest.raises(BadSetting, match=f"^topic {word}_events .*FRESHET_TOPIC_PREFIX"):
        kafka_client.ensure_topics(Settings(kafka_bootstrap=bootstrap, topic_prefix=f"{word}_"))
