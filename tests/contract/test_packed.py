"""Versions that the embedded broker answers from bytes to bytes answer as their neighbours, which it decodes;
and no request keeps it busy."""

from __future__ import annotations

import struct
from typing import Any, Final

import pytest
from kafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest, OffsetFetchRequest
from kafka.protocol.metadata import MetadataRequest

from infra.broker.wire import NO_TOPIC_ID, packed_uvarint
from tests.contract.conftest import Embedded, new_topic, quick
from tests.contract.raw import Peer, batch, fetch_request, fresh, produce_request, sealed

PRODUCE: Final = (7, 8)
FETCH: Final = (12, 11)
MANY: Final = 10_001
"""More elements than a request may have."""
INVALID_REQUEST: Final = 42


def produced(peer: Peer, request: Any) -> list[list[Any]]:
    """By version, every field of the answer to a request that appends nothing."""
    return [
        [
            (row.name, cell.index, cell.error_code, cell.base_offset, cell.log_append_time_ms)
            for row in peer.ask(request, version).responses
            for cell in row.partition_responses
        ]
        for version in PRODUCE
    ]


@pytest.mark.parametrize(
    ("records", "partition", "acks"),
    [
        (batch()[:-3], 0, -1),
        (sealed(batch([b"x" * 200])[:-3]), 0, -1),
        (b"", 0, -1),
        (batch(), 9, -1),
        (batch(), -1, 1),
        (batch(), 0, 2),
    ],
    ids=["cut", "sealed", "empty", "partition", "negative", "acks"],
)
@quick
def test_refusals_of_produce_are_those_of_the_next_version(
    peer: Peer, topic: str, records: bytes, partition: int, acks: int
) -> None:
    packed, decoded = produced(peer, produce_request(topic, records, partition, acks))
    assert packed == decoded
    assert packed[0][2] != 0


@quick
def test_an_unknown_topic_and_a_transaction_are_refused_alike(peer: Peer) -> None:
    for name, transaction in ((fresh("none"), None), (fresh("none"), "t")):
        request = produce_request(name, batch())
        request.transactional_id = transaction
        packed, decoded = produced(peer, request)
        assert packed == decoded


@quick
def test_offsets_follow_each_other_whatever_the_version(peer: Peer, topic: str) -> None:
    request = produce_request(topic, batch([b"a", b"b"]))
    found = [
        peer.ask(request, version).responses[0].partition_responses[0].base_offset
        for version in (7, 8, 7, 9)
    ]
    assert found == [0, 2, 4, 6]


@quick
def test_fetches_are_those_of_the_version_before(peer: Peer, topic: str) -> None:
    for n in range(3):
        peer.produce(topic, batch([b"%d" % n] * 20))
    for offset, most, epoch in (
        (0, 1 << 20, -1),
        (25, 1 << 20, 0),
        (60, 1 << 20, -1),
        (61, 1 << 20, -1),
        (-1, 1 << 20, -1),
        (0, 1, -1),
        (0, 1 << 20, 7),
    ):
        request = fetch_request(topic, offset, max_bytes=most, epoch=epoch)
        packed, decoded = (fetched(peer.ask(request, version)) for version in FETCH)
        assert packed == decoded, (offset, most, epoch)
    other = fetch_request(fresh("none"), 0)
    packed, decoded = (fetched(peer.ask(other, version)) for version in FETCH)
    assert packed == decoded


def fetched(answer: Any) -> list[Any]:
    assert answer.error_code == 0
    return [
        (
            row.topic, cell.partition_index, cell.error_code, cell.high_watermark,
            cell.last_stable_offset, cell.log_start_offset, bytes(cell.records or b""),
        )
        for row in answer.responses
        for cell in row.partitions
    ]  # fmt: skip


@quick
def test_a_fetch_of_many_partitions_waits_for_the_first_record(bootstrap: str, peer: Peer) -> None:
    topic = new_topic(peer, "two", partitions=2)
    request = fetch_request(topic, 0, wait=10_000)
    [first] = request.topics[0].partitions
    row = FetchRequest.FetchTopic.FetchPartition
    request.topics[0].partitions.append(
        row(
            partition=1, current_leader_epoch=-1, fetch_offset=0, last_fetched_epoch=-1,
            log_start_offset=-1, partition_max_bytes=first.partition_max_bytes,
        )
    )  # fmt: skip
    number = peer.send(request, 12)
    with Peer(bootstrap) as other:
        other.produce(topic, batch(), partition=1)
    cells = fetched(peer.receive(request, 12, number))
    assert [(it[1], it[3]) for it in cells] == [(0, 0), (1, 1)]


@pytest.mark.parametrize(
    "body", ["metadata", "produce", "fetch", "partitions", "packed fetch", "packed partitions"]
)
def test_a_request_of_too_many_elements_closes_the_connection(
    embedded: Embedded, body: str
) -> None:
    bootstrap = embedded.start()
    with Peer(bootstrap) as peer, Peer(bootstrap) as other:
        peer.send_bytes(too_many(body))
        assert peer.closed()
        assert other.ask(MetadataRequest(topics=[]), 4).error_code == 0


def too_many(body: str) -> bytes:
    if body == "metadata":  # 4 million names of nothing
        key, data = 3, struct.pack(">i", 4_000_000) + b"\0\0" * 400_000 + b"\0"
    elif body == "produce":
        key, data = 0, struct.pack(">hhii", -1, -1, 1000, MANY) + b"\0\0\0\0\0\0" * MANY
    elif body == "fetch":
        head = struct.pack(">iiiibiii", -1, 0, 1, 1 << 20, 0, 0, -1, MANY)
        key, data = 1, head + b"\0\0\0\0\0\0" * MANY
    elif body.startswith("packed"):
        data = b"\0" + struct.pack(">iiiibii", -1, 0, 1, 1 << 20, 0, 0, -1)
        many = packed_uvarint(MANY + 1)
        data += many + b"\1\1\0" * MANY if body == "packed fetch" else b"\2\1" + many
        key, data = 1, data + bytes(33) * MANY
    else:
        head = struct.pack(">iiiibiii", -1, 0, 1, 1 << 20, 0, 0, -1, 1) + struct.pack(
            ">hi", 0, MANY
        )
        key, data = 1, head + bytes(28) * MANY
    version = 12 if body.startswith("packed") else {3: 4, 0: 7, 1: 11}[key]
    request = struct.pack(">hhih", key, version, 1, -1) + data
    return struct.pack(">i", len(request)) + request


def test_a_large_request_without_records_closes_the_connection(embedded: Embedded) -> None:
    with Peer(embedded.start()) as peer:
        peer.send_bytes(struct.pack(">i", 8 << 20))
        peer.send_bytes(struct.pack(">hh", 3, 4))
        assert peer.closed()


@quick
def test_what_a_request_names_again_and_again_is_answered_once(peer: Peer) -> None:
    topic, often = new_topic(peer, "often", partitions=8), 9_000
    row = MetadataRequest.MetadataRequestTopic
    names = [row(topic_id=NO_TOPIC_ID, name=topic)] * often
    answer = peer.ask(MetadataRequest(topics=names, allow_auto_topic_creation=False), 12)
    assert [(it.name, len(it.partitions)) for it in answer.topics] == [(topic, 8)]


def test_configs_and_commits_that_are_named_again_are_answered_once(embedded: Embedded) -> None:
    with Peer(embedded.start()) as peer:
        assert peer.create("often") == 0
        resource = DescribeConfigsRequest.DescribeConfigsResource
        config = resource(resource_type=2, resource_name="often", configuration_keys=None)
        request = DescribeConfigsRequest(
            resources=[config] * 9, include_synonyms=False, include_documentation=False
        )
        assert [it.resource_name for it in peer.ask(request, 4).results] == ["often"]
        assert len(peer.ask(DescribeGroupsRequest(groups=["g"] * 9), 5).groups) == 1
        group = OffsetFetchRequest.OffsetFetchRequestGroup
        groups = [group(group_id="g", topics=None)] * 9
        commits = OffsetFetchRequest(groups=groups, require_stable=False)
        assert [it.group_id for it in peer.ask(commits, 8).groups] == ["g"]


@quick
def test_a_partition_whose_offsets_are_asked_twice_is_refused(peer: Peer, topic: str) -> None:
    peer.produce(topic, batch())
    row = ListOffsetsRequest.ListOffsetsTopic
    cell = row.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=0)
    for cells, found in (([cell], (0, 0)), ([cell, cell], (INVALID_REQUEST, -1))):
        request = ListOffsetsRequest(
            replica_id=-1, isolation_level=0, topics=[row(name=topic, partitions=cells)]
        )
        [answer] = peer.ask(request, 7).topics
        assert {(it.error_code, it.offset) for it in answer.partitions} == {found}


def test_topics_that_one_request_makes_let_other_clients_in(embedded: Embedded) -> None:
    bootstrap = embedded.start()
    row = MetadataRequest.MetadataRequestTopic
    names = [row(topic_id=NO_TOPIC_ID, name=f"made-{n}") for n in range(300)]
    with Peer(bootstrap) as many, Peer(bootstrap) as other:
        made = MetadataRequest(topics=names, allow_auto_topic_creation=True)
        number = many.send(made, 12)
        held = [0]
        while held[-1] < len(names):
            held.append(len(other.ask(MetadataRequest(topics=None), 4).topics))
        assert len({0, *held, len(names)}) > 2
        assert len(many.receive(made, 12, number).topics) == len(names)
