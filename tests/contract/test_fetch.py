"""Reading: positions, limits, waiting; and where times and epochs lie in a log."""

from __future__ import annotations

import time
from typing import Any

from kafka.protocol.admin import DeleteRecordsRequest
from kafka.protocol.consumer import FetchRequest, OffsetForLeaderEpochRequest

from tests.contract.conftest import new_topic, quick
from tests.contract.raw import HEADER, Peer, batch, fetch_request, now


@quick
def test_fetches_out_of_range_at_the_end_and_in_the_middle_are_answered(
    peer: Peer, topic: str
) -> None:
    for _ in range(3):
        assert peer.code(topic, batch([b"x"] * 4)) == 0
    for offset in (-1, 13):
        answer = peer.fetch(topic, offset)
        assert (answer.error_code, answer.high_watermark, answer.log_start_offset) == (1, -1, -1)
    end = peer.fetch(topic, 12)
    assert (end.error_code, end.high_watermark, end.records or b"") == (0, 12, b"")
    middle = peer.fetch(topic, 6)
    assert HEADER.unpack_from(middle.records)[0] == 4  # a batch comes from its base
    assert (middle.high_watermark, middle.last_stable_offset, middle.log_start_offset) == (
        12,
        12,
        0,
    )
    assert peer.fetch(topic, 0, partition=1).error_code == 3
    assert peer.fetch("no-such-topic", 0).error_code == 3


@quick
def test_one_byte_is_enough_for_a_whole_batch(peer: Peer, topic: str) -> None:
    data = batch([b"x" * 100])
    for _ in range(200):
        assert peer.code(topic, data) == 0
    assert len(peer.fetch(topic, 0, max_bytes=1).records) == len(data)
    for offset in (0, 1, 57, 150, 199):
        some = peer.fetch(topic, offset, max_bytes=len(data) * 5 + 7).records
        assert HEADER.unpack_from(some)[0] == offset
        assert len(some) >= min(5, 200 - offset) * len(data)
    assert len(peer.fetch(topic, 0).records) == 200 * len(data)


@quick
def test_a_fetch_fills_its_limit(peer: Peer, topic: str) -> None:
    data = batch([b"x" * 500] * 16)  # larger than the distance of two index entries
    for _ in range(30):
        assert peer.code(topic, data) == 0
    some = peer.fetch(topic, 16 * 3, max_bytes=10 * len(data) + 100).records
    assert len(some) // len(data) == 10
    assert HEADER.unpack_from(some)[0] == 16 * 3
    assert len(peer.fetch(topic, 0, max_bytes=10 * len(data)).records) == 10 * len(data)
    assert len(peer.fetch(topic, 0, max_bytes=len(data) - 1).records) == len(data)


@quick
def test_a_waiting_fetch_wakes_on_an_append(bootstrap: str, peer: Peer, topic: str) -> None:
    with Peer(bootstrap) as other:
        other.send(fetch_request(topic, 0, wait=60_000), 12)  # a peer waits for ten seconds only
        assert not peer.fetch(topic, 0, wait=200).records
        assert peer.code(topic, batch()) == 0
        assert len(other.read_frame()) > len(batch())


def test_an_empty_fetch_waits_for_its_max_wait(peer: Peer, topic: str) -> None:
    began = time.monotonic()
    assert not peer.fetch(topic, 0, wait=300).records
    assert time.monotonic() - began > 0.25


@quick
def test_min_bytes_are_waited_for(peer: Peer, topic: str) -> None:
    assert peer.code(topic, batch()) == 0
    size = len(batch())
    began = time.monotonic()
    assert len(peer.fetch(topic, 0, min_bytes=size + 1, wait=300).records) == size
    assert time.monotonic() - began > 0.25
    assert len(peer.fetch(topic, 0, min_bytes=size, wait=60_000).records) == size


@quick
def test_a_leader_epoch_from_the_future_is_refused(peer: Peer, topic: str) -> None:
    assert peer.fetch(topic, 0, epoch=99).error_code == 75


@quick
def test_an_unknown_fetch_session_is_refused(peer: Peer, topic: str) -> None:
    request = fetch_request(topic, 0, session=(424242, 7))
    assert peer.ask(request, 12).error_code == 70


def test_one_fetch_reads_many_partitions(peer: Peer) -> None:
    name = new_topic(peer, "many", partitions=3)
    for partition in range(3):
        assert peer.produce(name, batch([b"x" * 1000]), partition).error_code == 0
    cell = FetchRequest.FetchTopic.FetchPartition
    request = fetch_request(name, 0)
    request.topics[0].partitions = [
        cell(partition=n, current_leader_epoch=-1, fetch_offset=0, last_fetched_epoch=-1,
             log_start_offset=-1, partition_max_bytes=1 << 20)
        for n in range(3)
    ]  # fmt: skip
    answer = peer.ask(request, 12)
    assert all(partition.records for partition in answer.responses[0].partitions)


@quick
def test_times_lead_to_offsets(peer: Peer, topic: str) -> None:
    start = now() - 100_000
    for timestamp in (0, 10, 20, 15):
        data = batch([b"a", b"b"], timestamp=start + timestamp, codec=3 if timestamp == 20 else 0)
        assert peer.code(topic, data) == 0
    found = {
        timestamp: peer.offset_at(topic, start + timestamp)[1]
        for timestamp in (-5, 0, 1, 11, 20, 21)
    }
    assert found == {-5: 0, 0: 0, 1: 2, 11: 4, 20: 4, 21: -1}
    assert peer.offset_at(topic, -2) == (0, 0)
    assert peer.offset_at(topic, -1) == (0, 8)
    assert peer.offset_at(topic, -3) == (0, 4)  # the newest time, not the last record
    assert peer.offset_at(topic, -1, partition=5)[0] == 3


def test_an_empty_log_has_no_offset_for_a_time(peer: Peer, topic: str) -> None:
    assert peer.offset_at(topic, now()) == (0, -1)
    assert peer.offset_at(topic, -3) == (0, -1)


def cut(peer: Peer, topic: str, offset: int) -> tuple[int, int]:
    row = DeleteRecordsRequest.DeleteRecordsTopic
    partition = row.DeleteRecordsPartition(partition_index=0, offset=offset)
    request = DeleteRecordsRequest(
        topics=[row(name=topic, partitions=[partition])], timeout_ms=5000
    )
    answer = peer.ask(request, 2).topics[0].partitions[0]
    return answer.error_code, answer.low_watermark


@quick
def test_deleted_records_are_out_of_range(peer: Peer, topic: str) -> None:
    for _ in range(3):
        assert peer.code(topic, batch([b"x"] * 4)) == 0
    assert cut(peer, topic, 13)[0] == 1
    assert cut(peer, topic, 6) == (0, 6)
    assert cut(peer, topic, 2) == (0, 6)
    assert peer.offset_at(topic, -2) == (0, 6)
    assert peer.offset_at(topic, 0) == (0, 6)
    assert peer.fetch(topic, 5).error_code == 1
    assert HEADER.unpack_from(peer.fetch(topic, 6).records)[0] == 4
    assert cut(peer, topic, -1) == (0, 12)
    assert peer.offset_at(topic, -2) == (0, 12)
    assert peer.produce(topic, batch()).base_offset == 12


def test_the_end_offset_of_a_leader_epoch_is_that_of_the_log(peer: Peer, topic: str) -> None:
    assert peer.code(topic, batch([b"x"] * 3)) == 0

    def end(epoch: int, current: int = -1) -> Any:
        row = OffsetForLeaderEpochRequest.OffsetForLeaderTopic
        partition = row.OffsetForLeaderPartition(
            partition=0, current_leader_epoch=current, leader_epoch=epoch
        )
        request = OffsetForLeaderEpochRequest(
            replica_id=-1, topics=[row(topic=topic, partitions=[partition])]
        )
        answer = peer.ask(request, 4).topics[0].partitions[0]
        return answer.error_code, answer.leader_epoch, answer.end_offset

    assert end(0) == (0, 0, 3)
    assert end(7) == (0, -1, -1)
    assert end(0, current=99)[0] == 75
