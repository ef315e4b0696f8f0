"""Produce as bytes is what kafka-python's classes read and write."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from infra.kafka.produce import messages
from infra.kafka.produce.messages import Result

PLACES = st.dictionaries(
    st.tuples(st.sampled_from(["events", "items", "ü"]), st.integers(0, 9)),
    st.tuples(st.integers(-1, 90), st.integers(-1, 2**62), st.binary(max_size=9)),
    max_size=5,
)
Places = dict[tuple[str, int], tuple[int, int, bytes]]


@given(PLACES, st.integers(0, 60_000))
def test_a_request_is_read_as_it_was_meant(places: Places, timeout_ms: int) -> None:
    batches = [
        (topic.encode(), partition, data) for (topic, partition), (*_, data) in places.items()
    ]
    body = b"".join(messages.request(batches, timeout_ms))
    read: Any = ProduceRequest.decode(body, version=messages.VERSION)
    assert (read.transactional_id, read.acks, read.timeout_ms) == (None, -1, timeout_ms)
    assert {
        (topic.name.encode(), it.index, bytes(it.records))
        for topic in read.topic_data
        for it in topic.partition_data
    } == set(batches)
    assert len(read.topic_data) == len({topic for topic, _ in places})


def response(places: Places, throttle_ms: int = 0) -> bytes:
    kinds: Any = ProduceResponse.TopicProduceResponse
    cell = kinds.PartitionProduceResponse
    topics = [
        kinds(
            name=name,
            partition_responses=[
                cell(
                    index=partition,
                    error_code=error,
                    base_offset=offset,
                    log_append_time_ms=-1,
                    log_start_offset=0,
                )
                for (topic, partition), (error, offset, _) in places.items()
                if topic == name
            ],
        )
        for name in sorted({topic for topic, _ in places})
    ]
    made: Any = ProduceResponse(
        responses=topics, throttle_time_ms=throttle_ms, version=messages.VERSION
    )
    return bytes(made.encode())


@given(PLACES, st.integers(0, 10_000))
def test_an_answer_is_read_as_it_was_meant(places: Places, throttle_ms: int) -> None:
    found = messages.answer(b"12345678" + response(places, throttle_ms), 8)
    assert found.throttle_ms == throttle_ms
    assert found.results == {
        (topic.encode(), partition): Result(error, offset)
        for (topic, partition), (error, offset, _) in places.items()
    }


@given(PLACES, st.data())
def test_an_answer_that_is_cut_or_longer_is_an_error(places: Places, data: st.DataObject) -> None:
    whole = response(places)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for wrong in (cut, whole + b"\0"):
        with pytest.raises((ValueError, struct.error)):
            messages.answer(wrong, 0)


def test_a_partition_that_is_answered_twice_is_an_error() -> None:
    one = response({("events", 1): (0, 5, b"")})
    topic = one[4:-4]
    with pytest.raises(ValueError, match="twice"):
        messages.answer(struct.pack(">i", 2) + topic + topic + one[-4:], 0)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_answer_or_an_error(frame: bytes) -> None:
    try:
        messages.answer(frame, 0)
    except (ValueError, struct.error):
        return
