"""What the brokers say of our topics: their ids, the leader of each partition, the size of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kafka.errors import IncompatibleBrokerVersion, LeaderNotAvailableError, for_code
from kafka.protocol.admin import DescribeConfigsRequest
from kafka.protocol.metadata import MetadataRequest

from infra.kafka.connection import BrokerConnection
from infra.kafka.names import broker_name
from infra.kafka.produce.batch import MAX_BATCH_BYTES
from infra.settings import Settings
from schemas.topics import TOPICS

_MAX_BYTES: Final = "max.message.bytes"
_TOPIC: Final = 2
UNKNOWN_TOPIC: Final = 3
_NO_LEADER: Final = -1


class TopicsDiffer(Exception):
    """A topic of ours is not there, or has another number of partitions: `kafka_client.ensure_topics` makes
    it, or says what is wrong."""


class TopicLeaders(NamedTuple):
    """A topic, by the broker's name. `leaders`: the node of each partition."""

    id: str
    name: str
    leaders: tuple[int, ...]
    max_batch_bytes: int


class Cluster(NamedTuple):
    """`nodes`: ``host:port`` of each broker. `topics`: by our names."""

    nodes: Mapping[int, str]
    topics: Mapping[str, TopicLeaders]

    def bounded(self, too_large: Mapping[str, int]) -> Cluster:
        """The same, with half of these sizes where a topic says that it takes them. `too_large`: by the
        broker's names, the size of a batch that was refused."""
        topics = {
            name: it._replace(max_batch_bytes=too_large[it.name] // 2)
            for name, it in self.topics.items()
            if it.max_batch_bytes >= too_large.get(it.name, it.max_batch_bytes + 1)
        }
        return self._replace(topics={**self.topics, **topics})


async def cluster_of(connection: BrokerConnection, settings: Settings) -> Cluster:
    """Asks one broker.

    Errors: OSError, EOFError; `KafkaError`, so `LeaderNotAvailableError` while a partition has no leader;
    `TopicsDiffer`.
    """
    names = {broker_name(settings, topic.name): topic for topic in TOPICS}
    topics = [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
    answer: Any = await connection.ask(
        MetadataRequest(topics=topics, allow_auto_topic_creation=False)
    )
    limits = await _max_batch_bytes(connection, list(names))
    found: dict[str, TopicLeaders] = {}
    for entry in answer.topics:
        topic = names.get(entry.name)
        if topic is None:
            continue
        if entry.error_code == UNKNOWN_TOPIC:
            raise TopicsDiffer
        if entry.error_code:
            raise for_code(entry.error_code)(f"topic {entry.name}")
        leaders = {it.partition_index: it.leader_id for it in entry.partitions}
        if set(leaders) != set(range(topic.partitions or settings.partitions)):
            raise TopicsDiffer
        if _NO_LEADER in leaders.values():
            raise LeaderNotAvailableError(f"topic {entry.name}")
        by_partition = tuple(leaders[partition] for partition in range(len(leaders)))
        limit = min(MAX_BATCH_BYTES, limits.get(entry.name, MAX_BATCH_BYTES))
        found[topic.name] = TopicLeaders(str(entry.topic_id), entry.name, by_partition, limit)
    if len(found) < len(names):
        raise TopicsDiffer
    nodes = {it.node_id: f"{it.host}:{it.port}" for it in answer.brokers}
    if missing := {node for it in found.values() for node in it.leaders} - set(nodes):
        raise LeaderNotAvailableError(f"a leader that is no broker: {sorted(missing)}")
    return Cluster(nodes, found)


async def _max_batch_bytes(connection: BrokerConnection, names: list[str]) -> dict[str, int]:
    """Topic -> the size up to which it takes a batch, where the broker says. Errors: OSError, EOFError."""
    resource = DescribeConfigsRequest.DescribeConfigsResource
    asked = [
        resource(resource_type=_TOPIC, resource_name=name, configuration_keys=[_MAX_BYTES])
        for name in names
    ]
    try:
        answer: Any = await connection.ask(DescribeConfigsRequest(resources=asked))
    except IncompatibleBrokerVersion:
        return {}
    return {
        result.resource_name: int(config.value)
        for result in answer.results
        if not result.error_code  # it may be forbidden to ask
        for config in result.configs
        if config.name == _MAX_BYTES and config.value
    }
