"""Topics: names, counts, configs, ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka.protocol.admin import (
    AlterConfigsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest,
)
from kafka.protocol.metadata import MetadataRequest

from tests.contract.conftest import Embedded, new_topic, quick
from tests.contract.raw import Peer, batch, eventually, fetch_request, fresh


def described(peer: Peer, name: str, may_create: bool = False) -> Any:
    row = MetadataRequest.MetadataRequestTopic(topic_id=None, name=name)
    request = MetadataRequest(topics=[row], allow_auto_topic_creation=may_create)
    return peer.ask(request, 12).topics[0]


def delete(peer: Peer, name: str) -> int:
    row = DeleteTopicsRequest.DeleteTopicState(name=name)
    request = DeleteTopicsRequest(topics=[row], timeout_ms=10_000)
    code: int = peer.ask(request, 6).responses[0].error_code
    return code


SET, UNSET = 0, 1  # operations of an incremental change
BAD_NAMES = ["a b", "..", ".", "", "a/b", "../x", "x" * 250, "é", "a\x00b", "a\nb", "topic\n"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=[f"name{n}" for n in range(len(BAD_NAMES))])
@quick
def test_bad_topic_names_are_refused(peer: Peer, name: str) -> None:
    assert peer.create(name) == 17
    assert described(peer, name).error_code == 17
    assert described(peer, name, may_create=True).error_code == 17


@quick
def test_names_that_differ_in_dot_and_underscore_collide(peer: Peer) -> None:
    name = fresh("collide")
    assert peer.create(f"{name}.x") == 0
    assert peer.create(f"{name}_x") == 17
    assert peer.create(f"{name}.x") == 36
    assert peer.create("x" * 249) == 0
    assert delete(peer, "x" * 249) == 0


@pytest.mark.parametrize(
    ("partitions", "replicas", "configs", "code"),
    [
        (0, 1, {}, 37),
        (-2, 1, {}, 37),
        (1, 2, {}, 38),
        (1, 0, {}, 38),
        (1, 1, {"no_such_config": "1"}, 40),
        (1, 1, {"retention_ms": "soon"}, 40),
        (1, 1, {"retention_ms": "9" * 5000}, 40),
        (1, 1, {"cleanup_policy": "shred"}, 40),
        (1, 1, {"message_timestamp_type": "Never"}, 40),
        (-1, -1, {"cleanup_policy": "delete", "retention_bytes": "-1"}, 0),
    ],
)
@quick
def test_bad_counts_and_configs_are_refused(
    peer: Peer, partitions: int, replicas: int, configs: dict[str, str], code: int
) -> None:
    assert peer.create(fresh("bad"), partitions, replicas, **configs) == code


def test_a_topic_named_twice_in_one_request_is_not_created(peer: Peer) -> None:
    row = CreateTopicsRequest.CreatableTopic(
        name=fresh("twice"), num_partitions=1, replication_factor=1, assignments=[], configs=[]
    )
    request = CreateTopicsRequest(topics=[row, row], timeout_ms=1000, validate_only=False)
    assert {topic.error_code for topic in peer.ask(request, 7).topics} == {42}
    assert described(peer, row.name).error_code == 3


def test_validate_only_creates_nothing(peer: Peer) -> None:
    row = CreateTopicsRequest.CreatableTopic(
        name=fresh("dry"), num_partitions=1, replication_factor=1, assignments=[], configs=[]
    )
    request = CreateTopicsRequest(topics=[row], timeout_ms=1000, validate_only=True)
    assert peer.ask(request, 7).topics[0].error_code == 0
    assert described(peer, row.name).error_code == 3


def test_create_answers_id_count_and_configs(peer: Peer) -> None:
    row = CreateTopicsRequest.CreatableTopic(
        name=fresh("answer"),
        num_partitions=3,
        replication_factor=1,
        assignments=[],
        configs=[CreateTopicsRequest.CreatableTopic.CreatableTopicConfig("retention.ms", "77")],
    )
    request = CreateTopicsRequest(topics=[row], timeout_ms=10_000, validate_only=False)
    made = peer.ask(request, 7).topics[0]
    values = {config.name: config.value for config in made.configs}
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 3, 1)
    assert (values["retention.ms"], values["cleanup.policy"]) == ("77", "delete")
    eventually(lambda: bool(described(peer, row.name).topic_id == made.topic_id))


@quick
def test_a_recreated_topic_is_another_one(peer: Peer) -> None:
    name = new_topic(peer, "again")
    assert peer.code(name, batch()) == 0
    before = described(peer, name).topic_id
    assert delete(peer, name) == 0
    assert delete(peer, name) == 3
    eventually(lambda: bool(described(peer, name).error_code == 3))
    eventually(lambda: peer.create(name) == 0)
    eventually(lambda: peer.offset_at(name, -1)[0] == 0)
    assert peer.offset_at(name, -1) == (0, 0)
    assert described(peer, name).topic_id != before
    assert peer.produce(name, batch()).base_offset == 0


def test_fetch_and_metadata_by_topic_id(peer: Peer, topic: str) -> None:
    assert peer.code(topic, batch()) == 0
    topic_id = described(peer, topic).topic_id
    request = fetch_request(topic, 0)
    request.topics[0].topic_id = topic_id
    answer = peer.ask(request, 13)
    assert len(answer.responses[0].partitions[0].records) == len(batch())
    row = MetadataRequest.MetadataRequestTopic(topic_id=topic_id, name=None)
    assert peer.ask(MetadataRequest(topics=[row]), 12).topics[0].name == topic
    unknown = type(topic_id)(int=1 << 90)
    row = MetadataRequest.MetadataRequestTopic(topic_id=unknown, name=None)
    assert peer.ask(MetadataRequest(topics=[row]), 12).topics[0].error_code == 100
    request.topics[0].topic_id = unknown
    assert peer.ask(request, 13).responses[0].partitions[0].error_code == 100


def test_metadata_creates_a_topic_only_where_that_is_allowed(peer: Peer) -> None:
    name = fresh("auto")
    assert described(peer, name).error_code == 3
    eventually(lambda: bool(described(peer, name, may_create=True).error_code == 0))
    assert len(described(peer, name).partitions) == 4


def test_no_client_creates_a_topic_where_that_is_switched_off(tmp_path: Path) -> None:
    broker = Embedded(tmp_path / "data", "--no-auto-create")
    try:
        with Peer(broker.start()) as peer:
            assert described(peer, "auto", may_create=True).error_code == 3
            assert peer.create("made") == 0
    finally:
        broker.stop(kill=True)


@pytest.mark.parametrize(("count", "code"), [(3, 37), (2, 37), (0, 37), (5, 0)])
@quick
def test_a_partition_count_only_grows(peer: Peer, count: int, code: int) -> None:
    name = new_topic(peer, "grow", partitions=3)
    row = CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=count, assignments=None)
    request = CreatePartitionsRequest(topics=[row], timeout_ms=10_000, validate_only=False)
    assert peer.ask(request, 3).results[0].error_code == code
    eventually(lambda: len(described(peer, name).partitions) == (count if code == 0 else 3))


def alter(peer: Peer, name: str, **configs: str) -> int:
    """Error code of giving the topic these configs and no others; `_` stands for a dot."""
    row = AlterConfigsRequest.AlterConfigsResource
    values = [row.AlterableConfig(key.replace("_", "."), value) for key, value in configs.items()]
    request = AlterConfigsRequest(resources=[row(2, name, values)], validate_only=False)
    code: int = peer.ask(request, 2).responses[0].error_code
    return code


def test_configs_are_described_and_altered(peer: Peer) -> None:
    name = new_topic(peer, "conf", max_message_bytes="2000")

    def configs() -> dict[str, str]:
        asked = DescribeConfigsRequest.DescribeConfigsResource(2, name, None)
        request = DescribeConfigsRequest(resources=[asked], include_synonyms=False)
        return {row.name: row.value for row in peer.ask(request, 4).results[0].configs}

    assert configs()["max.message.bytes"] == "2000"
    assert peer.code(name, batch([b"x" * 3000])) == 10
    assert alter(peer, name, no_such_config="1") == 40
    assert alter(peer, name, max_message_bytes="4000") == 0
    eventually(lambda: peer.code(name, batch([b"x" * 3000])) == 0)
    assert configs()["max.message.bytes"] == "4000"
    assert change(peer, name, "retention.ms", "77", SET) == 0
    assert change(peer, name, "max.message.bytes", None, UNSET) == 0
    assert change(peer, name, "retention.ms", "soon", SET) == 40
    eventually(lambda: configs()["max.message.bytes"] == "1048588")
    assert configs()["retention.ms"] == "77"


def change(peer: Peer, name: str, key: str, value: str | None, operation: int) -> int:
    """Error code of changing one config and leaving the others."""
    row = IncrementalAlterConfigsRequest.AlterConfigsResource
    asked = row(2, name, [row.AlterableConfig(key, operation, value)])
    request = IncrementalAlterConfigsRequest(resources=[asked], validate_only=False)
    code: int = peer.ask(request, 1).responses[0].error_code
    return code


def test_log_dirs_give_the_bytes_of_a_partition(peer: Peer, topic: str) -> None:
    for _ in range(3):
        assert peer.code(topic, batch([b"x" * 100])) == 0
    asked = DescribeLogDirsRequest.DescribableLogDirTopic(topic=topic, partitions=[0])
    (place,) = peer.ask(DescribeLogDirsRequest(topics=[asked]), 4).results
    assert place.topics[0].partitions[0].partition_size == 3 * len(batch([b"x" * 100]))
