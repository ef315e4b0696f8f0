"""What a log takes, and what it must never acknowledge."""

from __future__ import annotations

import gzip
import struct

import lz4.frame
import pyarrow
import pytest
from kafka.protocol.producer import ProduceRequest

from tests.contract.conftest import new_topic, quick
from tests.contract.raw import HEADER, Peer, batch, now, produce_request, sealed, with_field

HOUR = 3_600_000


def damaged() -> bytes:
    data = bytearray(batch())
    data[-1] ^= 1
    return bytes(data)


def compressed(codec: int, payload: bytes, count: int) -> bytes:
    data = with_field(batch([b"x"] * count), "attributes", codec)
    return sealed(data[: HEADER.size] + payload)


RECORDS = batch([b"x" * 100] * 3)[HEADER.size :]
POISON = {
    "bad-checksum": (damaged(), 2),
    "garbage": (b"garbage " * 20, 2),
    "two-batches": (batch() + batch(), 87),
    "count-too-high": (with_field(batch([b"a", b"b"]), "records", 3), 87),
    "count-and-delta-too-high": (
        with_field(with_field(batch([b"a", b"b"]), "records", 3), "last_delta", 2), 87),
    "count-and-delta-too-low": (
        with_field(with_field(batch([b"a", b"b"]), "records", 1), "last_delta", 0), 87),
    "no-records": (with_field(with_field(batch(), "records", 0), "last_delta", -1), 87),
    "truncated": (batch()[:-3], 87),
    "truncated-and-sealed": (sealed(batch([b"x" * 200])[:-3]), 87),
    "header-only": (sealed(batch()[: HEADER.size]), 87),
    "shorter-than-a-header": (batch()[:40], 87),
    "empty": (b"", 87),
    "magic-1": (with_field(batch(), "magic", 1), 87),
    "magic-9": (with_field(batch(), "magic", 9), 2),
    "base-offset": (with_field(batch(), "base", 7), 87),
    "control-batch": (with_field(batch(), "attributes", 0x20), 87),
    "lz4-count-too-high": (compressed(3, lz4.frame.compress(RECORDS), 4), 87),
    "lz4-count-too-low": (compressed(3, lz4.frame.compress(RECORDS), 2), 87),
    "gzip-count-too-high": (compressed(1, gzip.compress(RECORDS), 4), 87),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), POISON.values(), ids=POISON)
@quick
def test_damaged_batches_are_refused(peer: Peer, topic: str, data: bytes, code: int) -> None:
    assert peer.code(topic, data) == code
    assert peer.offset_at(topic, -1) == (0, 0)
    assert peer.produce(topic, batch()).base_offset == 0  # and the log goes on
    assert len(peer.fetch(topic, 0).records) == len(batch())


def test_compressed_nonsense_is_refused(peer: Peer, topic: str) -> None:
    for codec in (1, 2, 3, 4):
        assert peer.code(topic, compressed(codec, b"\x07nonsense" * 9, 3)) in (2, 87, -1)
    assert peer.offset_at(topic, -1) == (0, 0)


def test_all_codecs_are_taken(peer: Peer, topic: str) -> None:
    payloads = {
        0: RECORDS,
        1: gzip.compress(RECORDS),
        2: pyarrow.compress(RECORDS, codec="snappy", asbytes=True),
        3: lz4.frame.compress(RECORDS),
        4: pyarrow.compress(RECORDS, codec="zstd", asbytes=True),
    }
    for codec, payload in payloads.items():
        answer = peer.produce(topic, compressed(codec, payload, 3))
        assert (codec, answer.error_code, answer.base_offset) == (codec, 0, 3 * codec)


@quick
def test_a_batch_larger_than_the_limit_is_refused(peer: Peer, topic: str) -> None:
    spare = len(batch([b"x" * 1_000_000])) - 1_000_000
    fits, large = (batch([b"x" * (size - spare)]) for size in (1_048_588, 1_048_589))
    assert (len(fits), len(large)) == (1_048_588, 1_048_589)
    assert peer.code(topic, fits) == 0
    assert peer.code(topic, large) == 10


@pytest.mark.parametrize(
    ("ahead", "code"),
    [(2 * HOUR, 32), (HOUR // 2, 0), (-now(), 0), (-now() - 1, 0), (-365 * 24 * HOUR, 0)],
    ids=["two-hours-ahead", "half-an-hour-ahead", "1970", "none", "last-year"],
)
@quick
def test_timestamps_from_the_future_are_refused(peer: Peer, ahead: int, code: int) -> None:
    name = new_topic(peer, "times", retention_ms="-1")
    data = batch([b"x"], timestamp=max(now() + ahead, -1))
    assert (peer.code(name, data), peer.offset_at(name, -1)[1]) == (code, int(code == 0))


@quick
def test_the_bound_of_a_topic_on_the_future_is_its_own(peer: Peer) -> None:
    name = new_topic(peer, "ahead", message_timestamp_after_max_ms=str(10 * HOUR))
    assert peer.code(name, batch([b"x"], timestamp=now() + 9 * HOUR)) == 0
    assert peer.code(name, batch([b"x"], timestamp=now() + 11 * HOUR)) == 32


@quick
def test_append_time_is_the_brokers(peer: Peer) -> None:
    name = new_topic(peer, "stamped", message_timestamp_type="LogAppendTime")
    before = now()
    answer = peer.produce(name, batch([b"a", b"b"], timestamp=5))
    assert answer.error_code == 0
    assert before - 1 <= answer.log_append_time_ms <= now() + 1
    header = HEADER.unpack_from(peer.fetch(name, 0).records)
    assert (header[5] & 8, header[8]) == (8, answer.log_append_time_ms)
    assert peer.offset_at(name, before - 1) == (0, 0)


@quick
def test_null_records_are_not_stored(bootstrap: str, peer: Peer, topic: str) -> None:
    peer.send(produce_request(topic, None), 9)  # Kafka never answers, the embedded broker with 87
    with Peer(bootstrap) as other:
        assert other.produce(topic, batch()).base_offset == 0


@pytest.mark.parametrize(("acks", "code"), [(2, 21), (-2, 21), (1, 0), (-1, 0)])
@quick
def test_acks_other_than_none_one_or_all_are_refused(
    peer: Peer, topic: str, acks: int, code: int
) -> None:
    assert peer.produce(topic, batch(), acks=acks).error_code == code


@quick
def test_without_acks_a_batch_is_stored_and_an_error_closes_the_connection(
    peer: Peer, topic: str
) -> None:
    peer.send(produce_request(topic, batch(), acks=0), 9)
    assert peer.produce(topic, batch()).base_offset == 1  # the same connection keeps the order
    peer.send(produce_request(topic, batch(), partition=9, acks=0), 9)
    assert peer.closed()


@quick
def test_version_7_answers_each_partition_by_its_name(peer: Peer, topic: str) -> None:
    other = new_topic(peer, "other", partitions=2)
    row = ProduceRequest.TopicProduceData
    wanted = {
        topic: {0: (batch(), 0), 1: (batch(), 3)},
        other: {1: (batch(), 0), 0: (damaged(), 2)},
    }
    asked = [
        row(
            name=name,
            partition_data=[
                row.PartitionProduceData(index=n, records=data) for n, (data, _) in cells.items()
            ],
        )
        for name, cells in wanted.items()
    ]
    answer = peer.ask(
        ProduceRequest(transactional_id=None, acks=-1, timeout_ms=5000, topic_data=asked), 7
    )
    found = {
        it.name: {
            cell.index: (cell.error_code, cell.base_offset) for cell in it.partition_responses
        }
        for it in answer.responses
    }
    assert found == {topic: {0: (0, 0), 1: (3, -1)}, other: {1: (0, 0), 0: (2, -1)}}


def test_an_unknown_topic_or_partition_is_refused(peer: Peer, topic: str) -> None:
    assert peer.code("no-such-topic", batch()) == 3
    assert peer.produce(topic, batch(), partition=1).error_code == 3
    assert peer.produce(topic, batch(), partition=-1).error_code == 3


def test_offsets_count_records(peer: Peer, topic: str) -> None:
    assert peer.produce(topic, batch([b"x"] * 5)).base_offset == 0
    assert peer.produce(topic, batch([b"y"])).base_offset == 5
    first, second = (HEADER.unpack_from(peer.fetch(topic, n).records) for n in (0, 5))
    assert (first[0], second[0]) == (0, 5)
    assert struct.pack(">q", 5) == peer.fetch(topic, 5).records[:8]
