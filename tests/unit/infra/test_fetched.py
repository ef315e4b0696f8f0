"""A fetch read by columns holds what kafka-python reads record by record."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from infra.kafka import fetch
from infra.kafka.fetch import Records

NONE, LZ4 = 0, 3
MANY: list[tuple[str, bytes | None]] = [
    (f"h{n}", b"%d" % n) for n in range(fetch.MAX_COLUMNAR_HEADERS + 3)
]
PLACE = TopicPartition("events", 3)


class Sent(NamedTuple):
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def packed(first: int, records: list[Sent], codec: int = NONE) -> bytes:
    """A batch as a broker keeps it, from offset `first` on."""
    made = MemoryRecordsBuilder(2, codec, 1 << 30)
    for it in records:
        made.append(it.timestamp, it.key, it.value, it.headers)
    made.close()
    return first.to_bytes(8, "big") + bytes(made.buffer())[8:]


def read_by_columns(data: bytes, start: int = 0) -> tuple[list[Records], int]:
    """The records of a fetch from offset `start`, and the offset of the next fetch."""
    batch = fetch._Unpacked(start, PLACE, MemoryRecords(data))
    return batch.take(), batch.next_fetch_offset


def read_by_kafka_python(data: bytes, start: int = 0) -> tuple[list[Any], int]:
    batch = Fetcher.PartitionRecords(start, PLACE, MemoryRecords(data))
    return batch.take(), batch.next_fetch_offset


def rows(pieces: list[Records]) -> list[tuple[object, ...]]:
    return [
        (*row, list(headers))
        for it in pieces
        for *row, headers in zip(*it[:4], it.headers or [()] * len(it.offsets), strict=True)
    ]


times = st.integers(-1, 4) | st.integers(0, 1 << 40) | st.just((1 << 62) - 1)
texts = st.none() | st.binary(max_size=3) | st.integers(50, 20_000).map(bytes)
records = st.builds(
    Sent,
    times,
    texts,
    texts,
    st.just([]) | st.lists(st.tuples(st.text(max_size=3), texts), max_size=2) | st.just(MANY),
)


@pytest.fixture(params=[0, 1 << 30], ids=["at once", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MIN_COLUMNAR_RECORDS", request.param)


@pytest.mark.usefixtures("way")
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.lists(records, min_size=1, max_size=70), min_size=1, max_size=4),
    st.sampled_from([NONE, LZ4]),
    st.data(),
)
def test_any_batches_from_any_offset_are_what_kafka_python_reads(
    batches: list[list[Sent]], codec: int, data: st.DataObject
) -> None:
    firsts = list(accumulate(map(len, batches), initial=7))
    raw = b"".join(map(packed, firsts, batches, [codec] * len(batches)))
    start = data.draw(st.integers(0, firsts[-1]))
    found, next_ = read_by_columns(raw, start)
    want, then = read_by_kafka_python(raw, start)
    assert rows(found) == [
        (it.offset, it.timestamp, it.key, it.value, list(it.headers)) for it in want
    ]
    assert next_ == (then if want else firsts[-1])
    assert all(it.offsets for it in found)


@given(st.lists(st.lists(records, min_size=1, max_size=6), min_size=1, max_size=3))
def test_small_batches_are_read_as_kafka_python_reads_them(batches: list[list[Sent]]) -> None:
    firsts = list(accumulate(map(len, batches), initial=7))
    each = list(map(packed, firsts, batches))
    found = fetch.read_small([memoryview(it) for it in each], firsts[-1] - 7)
    assert found is not None
    want, _ = read_by_kafka_python(b"".join(each))
    assert rows([found]) == [
        (it.offset, it.timestamp, it.key, it.value, list(it.headers)) for it in want
    ]


def test_small_batches_that_are_harmed_or_compressed_are_not_read() -> None:
    raw = bytearray(packed(4, [Sent(1, b"k", b"v" * 50, [])]))
    raw[-3] ^= 1
    with pytest.raises(CorruptRecordError, match="batch at 4"):
        fetch.read_small([memoryview(raw)], 1)
    compressed = packed(4, [Sent(1, b"k", b"v" * 50, [])] * 9, LZ4)
    assert fetch.read_small([memoryview(compressed)], 9) is None


def test_a_large_fetch_is_read_in_chunks_that_follow_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "CHUNK_BYTES", 1_000)
    each = [Sent(n, b"k", b"v" * 90, []) for n in range(20)]
    found, _ = read_by_columns(b"".join(packed(first, each) for first in range(0, 200, 20)))
    assert len(found) == 10
    batches, at = [], 0
    for it in found:
        batches.append(it.batch(3, at))
        at = batches[-1].next
    assert [(it.first, it.next) for it in batches] == [(n, n + 20) for n in range(0, 200, 20)]
    assert [offset for it in batches for offset in it.offsets] == list(range(200))


def test_chunks_hold_all_records_in_order() -> None:
    whole = Records([2, 3, 7, 8, 9], [5] * 5, [b"k"] * 5, [b"a", b"b", None, b"d", b"e"], [])
    assert [it.offsets for it in whole.chunks(2)] == [[2, 3], [7, 8], [9]]
    assert [it.offsets for it in whole.chunks(5)] == [whole.offsets]
    assert whole.before(7).values == [b"a", b"b"]
    assert whole.before(99) is whole
    assert whole.since(4).offsets == [7, 8, 9]
    assert not whole.before(0).offsets


def test_a_batch_that_is_not_what_its_sum_says_is_an_error() -> None:
    raw = bytearray(packed(0, [Sent(1, b"k", b"v" * 50, [])]))
    raw[-3] ^= 1
    with pytest.raises(CorruptRecordError, match="batch at 0"):
        read_by_columns(bytes(raw))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("at", [0, 4, 6, 8])  # of the record, its key, its value, its headers
def test_a_record_that_lies_about_a_length_is_an_error(at: int) -> None:
    (batch,) = map(fetch._unpacked, MemoryRecords(packed(5, [Sent(1, b"k", b"v", [])])))
    batch._buffer[batch._pos + at] += 4
    with pytest.raises(CorruptRecordError):
        fetch.read([batch])


@pytest.mark.usefixtures("way")
def test_a_record_with_the_timestamp_of_the_broker_has_its_time() -> None:
    (batch,) = MemoryRecords(packed(0, [Sent(n, None, b"v", []) for n in (3, 9, 5)]))
    head = list(batch._header_data)
    head[5] |= batch.TIMESTAMP_TYPE_MASK
    batch._header_data = tuple(head)
    found = fetch.read([iter(batch)])
    assert found.timestamps == [9, 9, 9]


@pytest.mark.usefixtures("way")
def test_a_transactions_mark_is_no_record() -> None:
    (batch,) = MemoryRecords(packed(0, [Sent(3, b"k", b"v", [])]))
    head = list(batch._header_data)
    head[5] |= batch.CONTROL_MASK
    batch._header_data = tuple(head)
    assert fetch.read([iter(batch)]) == ([], [], [], [], [])


def test_a_log_older_than_kafka_0_11_is_refused_by_name() -> None:
    made = MemoryRecordsBuilder(1, NONE, 1 << 20)
    made.append(1, b"k", b"v", [])
    made.close()
    with pytest.raises(CorruptRecordError, match=r"before 0\.11"):
        read_by_columns(bytes(made.buffer()))


@pytest.mark.usefixtures("way")
def test_a_header_whose_name_is_no_text_stops_no_reader() -> None:
    """Kafka's own clients take any bytes for a name, kafka-python's reader does not."""
    encoded = packed(
        0, [Sent(1, b"k", b"v", [("??", b"\xff\x00"), ("b", None)]), Sent(2, b"k", b"w", [])]
    )
    (batch,) = map(fetch._unpacked, MemoryRecords(encoded))
    at = batch._buffer.index(b"??")
    batch._buffer[at : at + 2] = b"\xff\xfe"
    found = fetch.read([batch])
    assert found.values == [b"v", b"w"]
    assert list(found.headers) == [(("\ufffd\ufffd", b"\xff\x00"), ("b", None)), ()]


def test_headers_are_cut_as_their_records_are() -> None:
    encoded = packed(0, [Sent(n, b"k", b"v", [("n", b"%d" % n)]) for n in range(50)])
    (found,), _ = read_by_columns(encoded)
    cut = found.between(7, 9)
    assert list(cut.headers) == [(("n", b"7"),), (("n", b"8"),)]
    assert cut.headers[-1] == (("n", b"8"),)
    assert found.batch(3, 0).headers[49] == (("n", b"49"),)
