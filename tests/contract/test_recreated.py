"""A topic that is recreated, or gets another partition count, under its readers and writers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import LogTruncationError, OffsetOutOfRangeError
from kafka.protocol.admin import CreatePartitionsRequest

from tests.contract.conftest import new_topic, quick
from tests.contract.raw import HEADER, Peer, batch, eventually, fetch_request, produce_request
from tests.contract.test_clients import SECONDS, consumer, read
from tests.contract.test_groups import Member
from tests.contract.test_topics import delete, described

UNKNOWN_TOPIC, UNKNOWN_ID = 3, 100


def recreate(peer: Peer, name: str, partitions: int = 1) -> uuid.UUID:
    """Deletes the topic, creates one of the same name, and answers the id of the deleted one.

    A reader may be first: kafka-python 3.0 asks for its topic to be made, whatever its settings say.
    """
    before: uuid.UUID = described(peer, name).topic_id
    assert delete(peer, name) == 0

    def is_another() -> bool:
        peer.create(name, partitions)
        there = described(peer, name)
        return bool(there.error_code == 0 and there.topic_id != before)

    eventually(is_another)
    for partition in range(partitions):
        eventually(lambda n=partition: peer.offset_at(name, -1, n) == (0, 0))  # type: ignore[misc]
    return before


def fetched(peer: Peer, topic_id: uuid.UUID, offset: int, partition: int = 0) -> Any:
    """The response for the partition to a fetch by topic id, as current clients send it."""
    request = fetch_request("", offset, partition)
    request.topics[0].topic_id = topic_id
    return peer.ask(request, 13).responses[0].partitions[0]


def produced_by_id(peer: Peer, topic_id: uuid.UUID) -> int:
    request = produce_request("", batch())
    request.topic_data[0].topic_id = topic_id
    code: int = peer.ask(request, 13).responses[0].partition_responses[0].error_code
    return code


@quick
def test_the_old_id_of_a_recreated_topic_is_unknown(peer: Peer, topic: str) -> None:
    assert peer.code(topic, batch([b"x"] * 3)) == 0
    old = recreate(peer, topic)
    new = described(peer, topic).topic_id
    assert new != old
    eventually(lambda: fetched(peer, old, 0).error_code == UNKNOWN_ID)
    assert produced_by_id(peer, old) == UNKNOWN_ID
    assert peer.offset_at(topic, -1) == (0, 0)
    assert produced_by_id(peer, new) == 0
    assert fetched(peer, new, 0).records


@quick
def test_an_old_position_is_outside_the_log_of_a_recreated_topic(peer: Peer, topic: str) -> None:
    assert peer.code(topic, batch([b"x"] * 3)) == 0
    recreate(peer, topic)
    assert peer.code(topic, batch()) == 0
    assert peer.fetch(topic, 3).error_code == 1
    assert peer.offset_at(topic, -2) == (0, 0)
    assert HEADER.unpack_from(peer.fetch(topic, 0).records)[0] == 0


@quick
def test_a_deleted_topic_is_unknown_to_readers_and_writers(peer: Peer, topic: str) -> None:
    old = described(peer, topic).topic_id
    assert delete(peer, topic) == 0
    eventually(lambda: peer.fetch(topic, 0).error_code == UNKNOWN_TOPIC)
    eventually(lambda: fetched(peer, old, 0).error_code == UNKNOWN_ID)
    assert peer.code(topic, batch()) == UNKNOWN_TOPIC
    assert peer.offset_at(topic, -1)[0] == UNKNOWN_TOPIC


@quick
def test_a_waiting_fetch_returns_when_its_topic_is_deleted(
    bootstrap: str, peer: Peer, topic: str
) -> None:
    asked = fetch_request(topic, 0, wait=60_000)  # a peer waits for ten seconds only
    with Peer(bootstrap) as other:
        number = other.send(asked, 12)
        assert not peer.fetch(topic, 0, wait=200).records
        assert delete(peer, topic) == 0
        answer = other.receive(asked, 12, number)
    assert answer.responses[0].partitions[0].error_code == UNKNOWN_TOPIC


@quick
def test_a_recreated_topic_has_no_commits(peer: Peer, group: str, topic: str) -> None:
    assert Member(peer, group).commit(topic, 5) == 0
    recreate(peer, topic)
    eventually(lambda: Member(peer, group).committed(topic) == -1)


@pytest.mark.parametrize("by", ["name", "id"])
@quick
def test_of_fewer_partitions_the_removed_ones_are_unknown(peer: Peer, by: str) -> None:
    name = new_topic(peer, "fewer", partitions=4)
    assert peer.produce(name, batch(), partition=3).error_code == 0
    recreate(peer, name, partitions=2)
    new = described(peer, name).topic_id
    fetch: Callable[[int], Any] = (
        (lambda n: fetched(peer, new, 0, n))
        if by == "id"
        else (lambda n: peer.fetch(name, 0, partition=n))
    )
    assert [fetch(n).error_code for n in range(4)] == [0, 0, UNKNOWN_TOPIC, UNKNOWN_TOPIC]
    assert peer.produce(name, batch(), partition=3).error_code == UNKNOWN_TOPIC
    assert peer.offset_at(name, -1, 3)[0] == UNKNOWN_TOPIC
    assert len(described(peer, name).partitions) == 2


@quick
def test_more_partitions_keep_the_existing_ones_as_they_are(bootstrap: str, peer: Peer) -> None:
    name = new_topic(peer, "more", partitions=2)
    assert peer.produce(name, batch([b"x"] * 3), partition=1).error_code == 0
    before = described(peer, name).topic_id
    with consumer(bootstrap) as client:
        client.assign([TopicPartition(name, 1)])
        client.seek(TopicPartition(name, 1), 0)
        assert len(read(client, 3)) == 3
        row = CreatePartitionsRequest.CreatePartitionsTopic(name=name, count=4, assignments=None)
        request = CreatePartitionsRequest(topics=[row], timeout_ms=10_000, validate_only=False)
        assert peer.ask(request, 3).results[0].error_code == 0
        eventually(lambda: peer.offset_at(name, -1, 3) == (0, 0))
        assert peer.produce(name, batch(), partition=3).base_offset == 0
        assert peer.produce(name, batch([b"after"]), partition=1).base_offset == 3
        assert read(client, 1)[0].value == b"after"
    assert described(peer, name).topic_id == before


@quick
def test_a_reader_of_a_recreated_topic_gets_off_the_log(
    bootstrap: str, peer: Peer, topic: str
) -> None:
    for _ in range(5):
        assert peer.code(topic, batch()) == 0
    with consumer(bootstrap) as client:
        client.assign([TopicPartition(topic, 0)])
        client.seek(TopicPartition(topic, 0), 0)
        assert len(read(client, 5)) == 5
        recreate(peer, topic)
        assert peer.code(topic, batch()) == 0
        with pytest.raises((OffsetOutOfRangeError, LogTruncationError)):  # who asks first says so
            read(client, 1)


@quick
def test_only_its_id_shows_that_a_topic_was_recreated_and_has_grown(
    bootstrap: str, peer: Peer, topic: str
) -> None:
    """A reader that keeps positions keeps the topic's id with them, therefore, and compares it."""
    assert peer.code(topic, batch([b"old"] * 5)) == 0
    with consumer(bootstrap, metadata_max_age_ms=200) as client:
        client.assign([TopicPartition(topic, 0)])
        client.seek(TopicPartition(topic, 0), 0)
        assert len(read(client, 5)) == 5
        before = recreate(peer, topic)
        assert peer.code(topic, batch([b"new"] * 9)) == 0
        assert [(r.offset, r.value) for r in read(client, 4)] == [(n, b"new") for n in range(5, 9)]
    assert described(peer, topic).topic_id != before


@quick
def test_a_writer_goes_on_in_a_recreated_topic(bootstrap: str, peer: Peer, topic: str) -> None:
    with KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, retry_backoff_ms=20
    ) as producer:
        for n in range(5):
            assert producer.send(topic, b"%d" % n).get(SECONDS).offset == n
        recreate(peer, topic)
        assert producer.send(topic, b"after").get(SECONDS).offset == 0
    assert peer.offset_at(topic, -1) == (0, 1)
