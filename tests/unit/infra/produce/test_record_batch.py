"""A record batch is, byte for byte, what kafka-python's builder makes of the same records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from infra.kafka.produce.batch import MAX_BATCH_BYTES
from infra.kafka.produce.record_batch import (
    HEAD_BYTES,
    MAX_RECORD_OVERHEAD,
    MIN_COMPRESSED_BYTES,
    SEQUENCES,
    ProducerId,
    RecordGroup,
    encoded,
    encoded_headers,
)
from schemas.record import Record

NOW = 1_700_000_000_000
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=70)), max_size=2).map(tuple)
RECORDS = st.builds(Record, st.binary(max_size=70), st.just(0), st.binary(max_size=300), HEADERS)
# a clock may be set back
GROUPS = st.lists(
    st.tuples(st.lists(RECORDS, min_size=1, max_size=3), st.integers(NOW - 10**7, NOW + 10**7)),
    min_size=1,
    max_size=3,
)
PRODUCERS = st.builds(ProducerId, st.integers(0, 2**63 - 1), st.integers(0, 2**15 - 1))


@given(GROUPS, HEADERS, PRODUCERS, st.integers(0, SEQUENCES - 1))
def test_a_batch_is_what_the_builder_makes(
    groups: list[tuple[list[Record], int]],
    common: tuple[tuple[str, bytes], ...],
    producer: ProducerId,
    sequence: int,
) -> None:
    made = encoded([RecordGroup(*it, encoded_headers(common)) for it in groups], producer, sequence)
    assert made in {built(groups, common, producer, sequence, codec) for codec in (0, 3)}
    is_compressed = bool(made[22])
    sizes = [
        len(it.key) + len(it.value) + len(encoded_headers(it.headers or common))
        for records, _ in groups
        for it in records
    ]
    assert sum(sizes) >= MIN_COMPRESSED_BYTES or not is_compressed or len(sizes) > 1
    assert is_compressed or len(made) <= HEAD_BYTES + sum(sizes) + MAX_RECORD_OVERHEAD * len(sizes)
    batch = DefaultRecordBatch(made)
    assert batch.validate_crc()
    assert [record.value for record in batch] == [it.value for them, _ in groups for it in them]


def built(
    groups: list[tuple[list[Record], int]],
    common: tuple[tuple[str, bytes], ...],
    producer: ProducerId,
    sequence: int,
    codec: int,
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, *producer, sequence, MAX_BATCH_BYTES)
    number = 0
    for records, timestamp in groups:
        for key, _, value, headers in records:
            builder.append(number, timestamp, key, value, list(headers or common))
            number += 1
    return bytes(builder.build())


def test_only_a_large_batch_is_compressed() -> None:
    for size, codec in ((MIN_COMPRESSED_BYTES // 2, 0), (MIN_COMPRESSED_BYTES, 3)):
        record = Record(b"key", 0, b"x" * size)
        assert encoded([RecordGroup([record], NOW, b"\0")], ProducerId(1, 0), 0)[22] == codec


def test_an_id_has_epochs_up_to_the_largest_short() -> None:
    assert ProducerId(7, 0).next() == (7, 1)
    assert ProducerId(7, 32_766).next() == (7, 32_767)
    assert ProducerId(7, 32_767).next() is None
