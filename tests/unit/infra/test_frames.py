"""Frames: what is joined comes apart again as it was, and a frame that is none, or holds what it may not, is
refused and never decoded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.kit.dead_letters import BAD_FRAME, split
from infra.frames import cut, framed, spread
from infra.log_reader import Batch
from schemas import dead_letters, events
from schemas.alphabet import Millis, Pseudonym
from schemas.headers import (
    FRAME,
    MAX_FRAME_BYTES,
    MAX_FRAMED_RECORDS,
    TRACEPARENT,
    Headers,
    traced,
)
from schemas.identity import partition_of
from schemas.record import Record
from schemas.slates import Slate, SlateItem
from schemas.topics import EVENTS, SLATES, Topic

T0 = Millis(1_760_000_000_000)
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ENCODE = msgspec.json.encode
PARTITIONS = 3


def who(n: int) -> Pseudonym:
    return Pseudonym(f"{n:032x}")


def served(n: int, placement: str = "home") -> bytes:
    return events.encode(
        events.Served(
            person=who(n % 5),
            slate_id=f"{n:026}",
            placement=placement,
            received_at=T0,
            items=("a", "b"),
        )
    )


def action(n: int = 1) -> bytes:
    at = T0
    return events.encode(
        events.Action(
            event_id="e",
            person=who(n),
            item_id="a",
            action="click",
            occurred_at=at,
            received_at=at,
        )
    )


def slate(n: int) -> bytes:
    items = (SlateItem(item_id="a", rank=1, score=0.5),)
    return ENCODE(
        Slate(slate_id=f"{n:026}", served_at=T0, placement="home", person=who(n % 5), items=items)
    )


def single(topic: Topic, n: int, trace: bytes = b"") -> Record:
    """A record as serving sends it alone."""
    value, key = (served(n), who(n % 5).encode()) if topic is EVENTS else (slate(n), b"%026d" % n)
    return Record(key, partition_of(key, PARTITIONS), value, traced(topic.headers, trace))


def batch(records: list[Record], first: int = 7) -> Batch:
    offsets = list(range(first, first + len(records)))
    return Batch(
        0,
        first,
        first + len(records),
        offsets,
        [T0] * len(records),
        [it.value for it in records],
        keys=[it.key for it in records],
        headers=[it.headers for it in records],
    )


def frame(value: bytes, count: int | bytes, headers: Headers = EVENTS.headers) -> Record:
    text = count if isinstance(count, bytes) else b"%d" % count
    return Record(b"", 0, value, (*headers, (FRAME, text)))


def array(*elements: bytes) -> bytes:
    return b"[" + b",".join(elements) + b"]"


def records_of(spread_out: Batch) -> list[Record]:
    return [
        Record(key or b"", 0, value or b"", tuple(headers))  # type: ignore[arg-type]
        for key, value, headers in zip(
            spread_out.keys, spread_out.values, spread_out.headers, strict=True
        )
    ]


@pytest.mark.parametrize("topic", [EVENTS, SLATES], ids=lambda it: it.name)
@given(
    st.lists(st.sampled_from([b"", TRACE, TRACE.replace(b"4b", b"5c")]), max_size=40),
    st.integers(2, 4_000),
)
def test_what_is_joined_comes_apart_as_it_was(topic: Topic, traces: list[bytes], most: int) -> None:
    """Key, value, headers and order of each partition; no frame is longer than `most`, or of one record."""
    records = [single(topic, n, trace) for n, trace in enumerate(traces)]
    joined = framed(topic.name, records, most)
    for partition in range(PARTITIONS):
        before = [it._replace(partition=0) for it in records if it.partition == partition]
        together = batch([it for it in joined if it.partition == partition])
        after = spread(topic.name, together)
        assert records_of(spread(topic.name, after)) == records_of(after)
        assert records_of(after) == before
        assert not after.refused
        places = list(zip(after.offsets, after.indexes or [0] * len(before), strict=True))
        assert places == sorted(set(places))
        assert (after.first, after.next) == (together.first, together.next)
    for it in joined:
        is_frame = dict(it.headers).get(FRAME)
        assert bool(is_frame) is not bool(it.key)
        if is_frame:
            assert len(it.value) <= min(most, MAX_FRAME_BYTES)
            assert int(is_frame) == len(msgspec.json.decode(it.value)) >= 2


def test_what_has_other_headers_stays_alone_and_in_its_place() -> None:
    records = [single(EVENTS, 0, trace) for trace in (b"", TRACE, b"", b"", TRACE)]
    records[2] = records[2]._replace(headers=())
    records[3] = records[3]._replace(headers=(*EVENTS.headers, ("other", b"x")))
    joined = framed(EVENTS.name, records)
    assert [dict(it.headers).get(FRAME) for it in joined] == [b"2", None, None, None]
    assert records_of(spread(EVENTS.name, batch(joined))) == [
        it._replace(partition=0) for it in records
    ]


def test_a_frame_has_at_most_so_many_records_and_bytes() -> None:
    records = [single(SLATES, n)._replace(partition=0) for n in range(MAX_FRAMED_RECORDS + 900)]
    joined = framed(SLATES.name, records)
    assert max(len(it.value) for it in joined) <= MAX_FRAME_BYTES
    assert all(len(spread(SLATES.name, batch([it])).offsets) >= 2 for it in joined)
    long = [it._replace(value=it.value + b" " * MAX_FRAME_BYTES) for it in records[:2]]
    assert framed(SLATES.name, [*records[:2], *long])[1:] == long


def test_batches_without_frames_are_not_touched() -> None:
    plain = batch([single(EVENTS, n) for n in range(3)])
    assert spread(EVENTS.name, plain) is plain
    # a header alone, with a key, is another producer's
    other = batch([single(EVENTS, 1)._replace(headers=((FRAME, b"1"),))])
    assert spread(EVENTS.name, other) is other
    mark = batch([Record(b"", 0, served(1), EVENTS.headers)])
    assert spread(EVENTS.name, mark) is mark
    items = batch([frame(array(served(1)), 1)])
    assert spread("items", items) is items


BAD = {
    "empty": frame(b"[]", 0),
    "no value": frame(b"", 0),
    "of 257 kB": frame(array(served(1, "x" * (257_000 - 220)), served(2)), 2),
    "a million tiny records": frame(array(*[b"0"] * 1_000_000), 1_000_000),
    "too many records": frame(array(*[b"0"] * (MAX_FRAMED_RECORDS + 1)), MAX_FRAMED_RECORDS + 1),
    "deep": frame(b"[" * 100_000 + b"]" * 100_000, 1),
    "of another number": frame(array(served(1), served(2)), 3),
    "without a number": frame(array(served(1)), b"one"),
    "an action": frame(action(), 1),
    "a served record": frame(served(1), 1),
    "cut": frame(array(served(1), served(2))[:-9], 2),
    "no JSON": frame(b"\xff\x00", 1),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_frame_that_is_none_is_one_dead_letter(bad: Record) -> None:
    good = single(EVENTS, 1)
    found = spread(EVENTS.name, batch([good, bad, good]))
    assert found.offsets == [7, 8, 9]
    assert found.stored_values() == [good.value, bad.value, good.value]
    assert replace(spread(EVENTS.name, found), read_at=found.read_at) == found
    kept, (letter,) = split(EVENTS.name, found, events.decode_all)
    assert [offset for offset, _, _ in kept] == [7, 9]
    assert (letter.identity, letter.reason) == ("events:0:8:0", BAD_FRAME)
    assert (letter.value, letter.size) == (
        bad.value if len(bad.value) < 600_000 else None,
        len(bad.value),
    )
    # sent again, what stands alone is a single record
    is_array = bad.value.startswith(b"[")
    assert (FRAME in dict(letter.headers)) is is_array


BAD_RECORDS = {
    b"5": "does_not_fit_schema",
    b"null": "does_not_fit_schema",
    array(served(1)): "does_not_fit_schema",
    b"[" * 300 + b"]" * 300: "does_not_fit_schema",
    b'{"kind":"served"}': "does_not_fit_schema",
    b'{"kind":7}': "does_not_fit_schema",
    served(1).replace(b'"home"', b'"\xff"'): "not_utf8",
    action(): BAD_FRAME,
    b'{"kind":"link"}': BAD_FRAME,
    b'{"kind":"nothing"}': BAD_FRAME,
}


@pytest.mark.parametrize("bad", list(BAD_RECORDS))
def test_a_bad_record_in_a_frame_is_a_dead_letter_alone(bad: bytes) -> None:
    made = frame(array(served(1), served(2), bad, served(3)), 4)
    found = spread(EVENTS.name, batch([single(EVENTS, 9), made]))
    assert (found.offsets, found.indexes) == ([7, 8, 8, 8, 8], [0, 0, 1, 2, 3])
    kept, (letter,) = split(EVENTS.name, found, events.decode_all)
    assert [event.slate_id for _, _, event in kept] == [f"{n:026}" for n in (9, 1, 2, 3)]
    assert (letter.identity, letter.reason) == ("events:0:8:2", BAD_RECORDS[bad])
    assert letter.value == bad
    assert letter.headers == EVENTS.headers
    # sent again it is a single record
    again = Record(letter.key or b"", 0, letter.value, letter.headers)  # type: ignore[arg-type]
    alone = spread(EVENTS.name, batch([again]))
    assert alone.values == [bad]


def test_an_array_without_the_header_does_not_decode() -> None:
    bare = Record(b"", 0, array(served(1)), EVENTS.headers)
    found = spread(EVENTS.name, batch([bare]))
    kept, (letter,) = split(EVENTS.name, found, events.decode_all)
    assert (kept, letter.reason) == ([], "does_not_fit_schema")


@pytest.mark.parametrize(
    "written",
    [
        lambda value: value.replace(b'{"kind"', b'{"traceparent":"%b","kind"' % TRACE),
        lambda value: value[:-1] + b', "traceparent": "%b"}' % TRACE,
        lambda value: b" %b " % (value[:-1] + b',"traceparent":"%b"}' % TRACE),
        lambda value: b'{"person":"%b",' % who(1).encode() + value[1:61] + value[61:],
        lambda value: value.replace(b"home", b'\\"traceparent\\":1'),
        lambda value: value[:-1] + b',"traceparent":"%b"}' % TRACE.upper(),
    ],
)
def test_another_writer_s_way_of_writing_says_the_same(written: object) -> None:
    value: bytes = written(served(1))  # type: ignore[operator]
    found = spread(EVENTS.name, batch([frame(array(value, served(2)), 2)]))
    assert found.keys[0] == who(1).encode()
    assert events.decode_all(found.values[:1], [T0])[0].person == who(1)  # type: ignore[arg-type]
    trace = dict(found.headers[0]).get(TRACEPARENT)
    assert trace == (TRACE if TRACE in value else None)


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_are_spread_or_refused(value: bytes, count: int) -> None:
    for text in (value, array(value, served(1)), array(b'{"kind":"served",' + value, b"1")):
        found = spread(EVENTS.name, batch([frame(text, count)]))
        kept, letters = split(EVENTS.name, found, events.decode_all)
        assert len(kept) + len(letters) == len(found.offsets) >= 1
        assert len({it.identity for it in letters}) == len(letters)


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(1, 7))
def test_a_batch_is_cut_between_frames_only(sizes: list[int], most: int) -> None:
    records = [
        frame(array(*[served(n) for n in range(size)]), size) if size > 1 else single(EVENTS, 1)
        for size in sizes
    ]
    whole = spread(EVENTS.name, batch(records))
    parts = list(cut(whole, most))
    assert [it.first for it in parts] == [whole.first, *(it.next for it in parts[:-1])]
    assert parts[-1].next == whole.next
    for name in ("offsets", "values", "keys", "timestamps"):
        joined = [it for part in parts for it in getattr(part, name)]
        assert joined == getattr(whole, name)
    for one, other in pairwise(parts):
        assert one.offsets[-1] < other.offsets[0]
    for part in parts:
        assert len(part.offsets) <= most or len(set(part.offsets)) == 1


def test_the_parts_of_a_batch_keep_what_is_refused() -> None:
    records = [single(EVENTS, 1), BAD["an action"], single(EVENTS, 2), BAD["empty"]]
    parts = list(cut(spread(EVENTS.name, batch(records)), 2))
    assert [it.refused for it in parts] == [{1: action()}, {1: b"[]"}]


def test_a_letter_of_before_frames_has_index_0() -> None:
    old = b'{"topic":"events","partition":3,"offset":1200,"reason":"empty","value":null,"record_at":1}'
    assert dead_letters.decode(old).identity == "events:3:1200:0"
