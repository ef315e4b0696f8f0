"""Fetch by hand is kafka-python's Fetch, and what is no answer is refused by name."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer import FetchRequest, FetchResponse

from infra.kafka.connection import BrokenConnection
from infra.kafka.consume import wire
from infra.kafka.consume.wire import Cell, Position

ROW: Final = FetchResponse.FetchableTopicResponse
CELL: Final = ROW.PartitionData
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
names = st.text("abc._-XYZ09", min_size=1, max_size=249)


@given(names, st.lists(st.builds(Position, int32, int64, int32), max_size=200), int32)
def test_a_request_is_what_kafka_python_packs(
    name: str, positions: list[Position], wait_ms: int
) -> None:
    topic = FetchRequest.FetchTopic
    cells = [
        topic.FetchPartition(
            partition=it.partition,
            current_leader_epoch=-1,
            fetch_offset=it.offset,
            last_fetched_epoch=it.epoch,
            log_start_offset=-1,
            partition_max_bytes=wire.MAX_PARTITION_BYTES,
        )
        for it in positions
    ]
    made = FetchRequest(
        replica_id=-1,
        max_wait_ms=wait_ms,
        min_bytes=1,
        max_bytes=wire.MAX_BYTES,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[topic(topic=name, partitions=cells)],
        forgotten_topics_data=[],
        rack_id="",
    )
    made.API_VERSION = wire.VERSION
    assert wire.request(name, positions, wait_ms) == bytes(made.encode())


aborted = st.lists(
    st.builds(lambda a, b: CELL.AbortedTransaction(producer_id=a, first_offset=b), int64, int64),
    max_size=3,
)
made_cells = st.builds(
    lambda error, data, gone, diverged: {
        "error_code": error,
        "high_watermark": 5,
        "last_stable_offset": 5,
        "log_start_offset": 0,
        "aborted_transactions": gone,
        "preferred_read_replica": -1,
        "records": data,
        "diverging_epoch": diverged,
    },
    st.integers(-1, 100),
    st.none() | st.binary(max_size=300),
    st.none() | aborted,
    st.none() | st.tuples(int32, st.integers(0, 2**63 - 1)),
)
answers = st.dictionaries(st.integers(0, 2**31 - 1), made_cells, max_size=5)


def frame(cells: dict[int, dict[str, Any]], name: str = "events", error: int = 0) -> bytes:
    rows = []
    for partition, fields in cells.items():
        its = dict(fields)
        diverged = its.pop("diverging_epoch", None)
        if diverged is not None:
            its["diverging_epoch"] = CELL.EpochEndOffset(epoch=diverged[0], end_offset=diverged[1])
        rows.append(CELL(partition_index=partition, **its))
    made = FetchResponse(
        throttle_time_ms=0,
        error_code=error,
        session_id=0,
        responses=[ROW(topic=name, topic_id=uuid.UUID(int=0), partitions=rows)],
    )
    made.API_VERSION = wire.VERSION
    made.with_header(7)
    return bytes(made.encode(header=True, framed=True))


@given(answers)
def test_an_answer_is_read_as_kafka_python_packs_it(cells: dict[int, dict[str, Any]]) -> None:
    assert wire.answer(frame(cells), 8, "events") == [
        Cell(p, it["error_code"], memoryview(it["records"] or b""), it["diverging_epoch"])
        for p, it in cells.items()
    ]


@given(answers, st.data())
def test_an_answer_that_is_cut_or_changed_is_refused_or_read(
    cells: dict[int, dict[str, Any]], data: st.DataObject
) -> None:
    whole = frame(cells)
    cut = whole[: data.draw(st.integers(8, len(whole) - 1))]
    with pytest.raises(BrokenConnection):
        wire.answer(cut, 8, "events")
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BrokenConnection):
        wire.answer(changed, 8, "events")


@given(st.binary(min_size=8, max_size=200))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(BrokenConnection):
        wire.answer(data, 8, "events")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (frame({}, "another"), "of another topic"),
        (frame({}, error=70), "the error 70"),
        (frame({}) + b"\0", "longer than"),
    ],
    ids=["topic", "error", "longer"],
)
def test_the_reason_is_named(made: bytes, why: str) -> None:
    with pytest.raises(BrokenConnection, match=why):
        wire.answer(made, 8, "events")
