"""Where batches begin and end: nothing is skipped or read twice, and what no log holds is refused."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import CorruptRecordError

from infra.kafka.connection import BrokenConnection
from infra.kafka.consume.batches import split
from infra.kafka.fetch import Records
from tests.contract.raw import batch, with_field

CONTROL: Final = 0x20


def log(*counts: int, codec: int = 0) -> tuple[bytes, list[bytes]]:
    """Batches of so many records each, and all values, by offset."""
    data, values = b"", list[bytes]()
    for count in counts:
        its = [b"%d" % (len(values) + n) for n in range(count)]
        data += with_field(batch(its, codec=codec), "base", len(values))
        values += its
    return data, values


def pieces(data: bytes, offset: int) -> list[Records]:
    fetched = split(memoryview(data), offset)
    return [] if fetched is None else list(fetched.decoded())


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.data())
def test_records_from_the_offset_on_are_read_once_whatever_was_cut_off(
    counts: list[int], data: st.DataObject
) -> None:
    whole, values = log(*counts)
    at = data.draw(st.integers(0, counts[0] - 1))
    cut = data.draw(st.integers(0, len(whole)))
    if cut < len(log(counts[0])[0]):
        with pytest.raises(BrokenConnection) if cut else nullcontext():
            assert split(memoryview(whole[:cut]), at) is None
        return
    fetched = split(memoryview(whole[:cut]), at)
    assert fetched is not None
    found = list(fetched.decoded())
    offsets = [offset for it in found for offset in it.offsets]
    assert offsets == list(range(at, fetched.next))
    assert [value for it in found for value in it.values] == values[at : fetched.next]
    assert fetched.records == fetched.next


@pytest.mark.parametrize("codec", [0, 1, 3, 4])
def test_every_codec_that_is_installed_is_read(codec: int) -> None:
    data, values = log(3, 50, codec=codec)
    assert [value for it in pieces(data, 0) for value in it.values] == values


def test_marks_of_a_transaction_are_passed_over() -> None:
    mark = bytearray(with_field(batch([b""], key=b"\0\0\0\1"), "base", 2))
    data, _ = log(2)
    fetched = split(memoryview(data + with_field(bytes(mark), "attributes", CONTROL)), 0)
    assert fetched is not None
    assert [it.offsets for it in fetched.decoded()] == [[0, 1]]
    assert fetched.next == 3


def test_a_gap_is_passed_over() -> None:
    data = with_field(batch([b"a"]), "base", 7) + with_field(batch([b"b"]), "base", 9)
    assert [it.offsets for it in pieces(data, 3)] == [[7, 9]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (log(2)[0] + log(2)[0], "where 2 is the next"),
        (with_field(log(2)[0], "last_delta", -1), "not one of a batch"),
        (with_field(log(2)[0], "records", -1), "not one of a batch"),
        (with_field(log(2)[0], "magic", 1), "before 0.11"),
        (log(2)[0][:8] + b"\0\0\0\1" + log(2)[0][12:], "not one of a batch"),
        (with_field(log(2)[0], "base", -9), "comes where 0 is the next"),
        (log(2)[0][:-1] + b"\1", "not what its sum says"),
        (with_field(log(2)[0], "records", 3), "not what its length says|structure"),
    ],
    ids=["twice", "delta", "count", "old", "length", "before", "sum", "more"],
)
def test_what_no_log_holds_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(CorruptRecordError, match=why):
        pieces(data, 0)


@given(st.binary(max_size=400), st.integers(0, 100))
def test_garbage_is_refused(data: bytes, offset: int) -> None:
    try:
        found = pieces(data, offset)
    except (CorruptRecordError, BrokenConnection):
        return
    assert found == []
