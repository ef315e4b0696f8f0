"""Headers of records: valid `traceparent`s, and a spool that keeps headers as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    REDRIVEN,
    TRIES,
    bounded_headers,
    redriven_headers,
)
from schemas.headers import Headers, packed, traced, unpacked, valid_traceparent
from schemas.topics import TOPICS

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9)), max_size=3).map(tuple)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        TRACE[:-1],
        TRACE + b"0",
        TRACE + b"-more",
        TRACE + b"\n",
        TRACE.upper(),
        b"01" + TRACE[2:],
        b"ff" + TRACE[2:],
        TRACE.replace(b"-", b"_"),
        b"00-" + b"0" * 32 + TRACE[35:],
        TRACE[:36] + b"0" * 16 + TRACE[52:],
        TRACE[:10] + b"g" + TRACE[11:],
    ],
)
def test_a_traceparent_that_is_not_valid_is_none(value: bytes) -> None:
    assert valid_traceparent([value]) == b""


def test_one_valid_traceparent_counts_and_of_two_none_does() -> None:
    assert valid_traceparent([TRACE]) == TRACE
    assert (
        valid_traceparent([TRACE, TRACE])
        == valid_traceparent([])
        == valid_traceparent([None])
        == b""
    )


def test_every_topic_has_a_schema_of_its_own() -> None:
    for topic in TOPICS:
        assert topic.headers == (("freshet-schema", topic.schema.text.encode()),)
        assert traced(topic.headers, TRACE) == (*topic.headers, ("traceparent", TRACE))
        assert traced(topic.headers, b"") is topic.headers
    assert len({topic.schema.name for topic in TOPICS}) == len(TOPICS)


@given(HEADERS)
def test_packed_headers_are_unpacked_and_a_cut_block_is_refused(headers: Headers) -> None:
    block = packed(headers)
    assert unpacked(block) == headers
    lengths = {len(packed(headers[:n])) for n in range(len(headers) + 1)}
    for cut in set(range(len(block))) - lengths:
        with pytest.raises(ValueError):
            unpacked(block[:cut])


def test_a_letter_takes_many_headers_or_long_ones_up_to_its_bounds() -> None:
    many = [(f"h{n}", b"") for n in range(MAX_HEADERS + 3)]
    assert bounded_headers(many) == (tuple(many[:MAX_HEADERS]), 3)
    long = [("a", bytes(MAX_HEADER_BYTES)), ("b", b"\xff\x00"), ("c", None)]
    assert bounded_headers(long) == (tuple(long[1:]), 1)
    assert bounded_headers([("é" * MAX_HEADER_BYTES, None)]) == ((), 1)


def test_a_record_that_is_sent_once_more_says_so_once() -> None:
    before = [("h", None), (REDRIVEN, b"events:1:2"), ("h", b"x"), (TRIES, b"1")]
    assert redriven_headers("events:1:9", 1, before) == [
        ("h", b""),
        ("h", b"x"),
        (REDRIVEN, b"events:1:9"),
        (TRIES, b"2"),
    ]
