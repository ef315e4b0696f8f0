"""Retention: by record time, by size, by whole segments; and readers behind the log's start."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import OffsetOutOfRangeError

from tests.contract.conftest import new_topic, quick
from tests.contract.raw import Peer, batch, eventually, now
from tests.contract.test_clients import consumer, read
from tests.contract.test_fetch import cut
from tests.contract.test_topics import alter

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
SEGMENT = str(1 << 20)  # bytes, the least that Kafka takes
THIRD = 350_000  # bytes: three batches do not fit into a segment


def fill(peer: Peer, topic: str, *timestamps: int) -> None:
    """One batch of two records each, a third of a segment large."""
    for timestamp in timestamps:
        assert peer.code(topic, batch([b"x" * THIRD, b"y"], timestamp=timestamp)) == 0


def first(peer: Peer, topic: str) -> int:
    """The log's first offset."""
    code, offset = peer.offset_at(topic, -2)
    assert code == 0
    return offset


@quick
def test_records_expire_by_their_own_time_not_by_their_arrival(peer: Peer) -> None:
    name = new_topic(peer, "old", retention_ms=str(DAY))
    fill(peer, name, 1000, now() - 2 * DAY)
    eventually(lambda: first(peer, name) == 4)
    assert peer.offset_at(name, -1) == (0, 4)
    assert peer.fetch(name, 3).error_code == 1
    assert peer.produce(name, batch()).base_offset == 4
    assert peer.fetch(name, 4).error_code == 0


@quick
def test_whole_segments_expire_and_one_young_record_keeps_its_segment(peer: Peer) -> None:
    name = new_topic(peer, "mixed", retention_ms="-1", segment_bytes=SEGMENT)
    old, young = now() - 2 * DAY, now()
    fill(peer, name, old, old)  # the first segment: all old
    fill(peer, name, old, young)  # the second: one is young
    fill(peer, name, old)  # behind a young one
    # only now: a look between two batches would find other segments
    assert alter(peer, name, retention_ms=str(DAY), segment_bytes=SEGMENT) == 0
    eventually(lambda: first(peer, name) == 4)
    marked = new_topic(peer, "marker", retention_ms=str(DAY))
    fill(peer, marked, old)
    eventually(lambda: first(peer, marked) == 2)  # the broker has looked once more
    assert first(peer, name) == 4
    assert len(peer.fetch(name, 4, max_bytes=1).records) == len(batch([b"x" * THIRD, b"y"]))
    assert peer.offset_at(name, old) == (0, 4)
    assert peer.offset_at(name, young) == (0, 6)


@quick
def test_the_oldest_segments_expire_where_a_log_grows_too_large(peer: Peer) -> None:
    name = new_topic(
        peer, "large", retention_ms="-1", retention_bytes=str(2 << 20), segment_bytes=SEGMENT
    )
    fill(peer, name, *[now()] * 10)  # five segments of two thirds
    eventually(lambda: first(peer, name) == 8)
    assert peer.offset_at(name, -1) == (0, 20)


def test_a_shorter_retention_holds_for_existing_records(peer: Peer) -> None:
    name = new_topic(peer, "alter", retention_ms="-1", segment_bytes=SEGMENT)
    fill(peer, name, now() - 2 * DAY, now() - 2 * DAY, now())
    assert first(peer, name) == 0
    assert alter(peer, name, retention_ms=str(DAY), segment_bytes=SEGMENT) == 0
    eventually(lambda: first(peer, name) == 4)


def test_a_segment_is_closed_by_the_time_of_its_records(peer: Peer) -> None:
    name = new_topic(peer, "hourly", retention_ms=str(DAY), segment_ms=str(60 * MINUTE))
    old = now() - 2 * DAY
    for timestamp in (old, old + 30 * MINUTE, old + 90 * MINUTE, now()):
        assert peer.code(name, batch(timestamp=timestamp)) == 0
    eventually(lambda: first(peer, name) == 3)


@quick
def test_a_reader_behind_the_log_gets_offset_out_of_range(bootstrap: str, peer: Peer) -> None:
    name = new_topic(peer, "behind", retention_ms=str(DAY), segment_bytes=SEGMENT)
    place = TopicPartition(name, 0)
    fill(peer, name, *[now()] * 2)
    with consumer(bootstrap) as client:
        client.assign([place])
        client.seek(place, 0)
        assert read(client, 1)[0].offset == 0
        fill(peer, name, now())
        assert cut(peer, name, 4) == (0, 4)
        client.seek(place, 3)
        with pytest.raises(OffsetOutOfRangeError):
            read(client, 1)
        assert client.beginning_offsets([place]) == {place: 4}
    follower = KafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    with follower:
        follower.assign([place])
        follower.seek(place, 1)
        assert read(follower, 1)[0].offset == 4  # who asked for it jumps


@quick
def test_reads_cross_from_segment_to_segment(bootstrap: str, peer: Peer) -> None:
    name = new_topic(peer, "cross", segment_bytes=SEGMENT)
    begun = now() - MINUTE
    fill(peer, name, *(begun + n for n in range(7)))
    with consumer(bootstrap, max_partition_fetch_bytes=4 << 20) as client:
        client.assign([TopicPartition(name, 0)])
        client.seek(TopicPartition(name, 0), 0)
        assert [record.offset for record in read(client, 14)] == list(range(14))
    for n in range(7):
        assert peer.offset_at(name, begun + n) == (0, 2 * n)
        assert peer.fetch(name, 2 * n + 1, max_bytes=1).records
    assert peer.offset_at(name, begun + 7) == (0, -1)
    assert peer.offset_at(name, -3) == (0, 12)


def test_a_batch_larger_than_a_segment_is_refused(peer: Peer) -> None:
    name = new_topic(peer, "vast", segment_bytes=SEGMENT, max_message_bytes=str(4 << 20))
    assert peer.code(name, batch([b"x" * (1 << 20)])) == 18
    assert peer.code(name, batch([b"x" * 1_000_000])) == 0
