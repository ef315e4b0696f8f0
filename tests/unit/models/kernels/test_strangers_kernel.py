"""Entries of strangers: the kernel gives what Python defines, and none is larger than its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from models.outcomes import join, open_slates, strangers
from models.outcomes.open_slates import Account
from models.outcomes.slots import Assignment, Shown
from models.outcomes.strangers import MAX_ENTRY_BYTES, Entry

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)

SLATES = st.lists(
    st.builds(
        Shown,
        id=st.integers(1, 50),
        at=st.integers(1_760_000_000_000, 1_760_000_100_000),
        placement=st.integers(1, 3),
        items=st.lists(st.integers(1, 40).map(lambda n: n * 2**57), max_size=60),
        explored=st.integers(0, 60),
        assigned=st.lists(
            st.builds(Assignment, st.integers(1, 12), st.just(1), st.just(7)), max_size=12
        ),
    ),
    max_size=8,
)


def account_of(slates: list[Shown]) -> bytes:
    account = Account()
    for shown in slates:
        join.serve(account, shown)
    return open_slates.encode(account)


def packed_of(slates: list[Shown]) -> bytes:
    return strangers.pack(strangers.cut(account_of(slates)))


@given(SLATES)
def test_what_is_cut_and_shown_is_pythons(slates: list[Shown]) -> None:
    stored = account_of(slates)
    whole, made = open_slates.decode(stored), strangers.cut(stored)
    assert len(made) <= strangers.MAX_ACCOUNT_BYTES
    if len(stored) > strangers.MAX_ACCOUNT_BYTES:
        assert made == strangers.cut_by_python(stored)
    assert strangers.shown(made) == strangers.shown_by_python(made)
    packed = strangers.pack(made)
    assert packed == strangers.pack_by_python(made)
    assert strangers.unpack(packed) == strangers.unpack_by_python(packed) == made
    assert len(strangers.write_bucket({"0a" * 16: Entry(2**40 - 1, packed)})) - 1 <= MAX_ENTRY_BYTES
    held = open_slates.decode(made)
    kept = len(held.slates)
    for before, after in zip(whole.slates[len(whole.slates) - kept :], held.slates, strict=True):
        assert (before.id, before.at, before.placement) == (after.id, after.at, after.placement)
        assert before.items.startswith(after.items)
    assert held.units == whole.units[: len(held.units)]
    assert (held.newest, held.since) == (whole.newest, whole.since)


@given(st.binary(max_size=300))
def test_other_bytes_are_no_entry(data: bytes) -> None:
    for call in (strangers.shown, strangers.cut, strangers.pack):
        try:
            call(data)
        except ValueError:
            continue


@given(SLATES, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3))
def test_damaged_bytes_are_refused_or_read_as_python_reads_them(
    slates: list[Shown], damage: list[tuple[int, int]]
) -> None:
    packed = bytearray(strangers.pack(strangers.cut(account_of(slates))))
    for at, byte in damage:
        packed[at % len(packed)] = byte
    for data in (bytes(packed), bytes(packed[: damage[0][0]] if damage else packed)):
        try:
            expected = strangers.unpack_by_python(data)
        except ValueError:
            with pytest.raises(ValueError):
                strangers.unpack(data)
            continue
        assert strangers.unpack(data) == expected


@given(
    st.dictionaries(
        st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}"),
        st.builds(Entry, st.integers(0, 2**40 - 1), SLATES.map(packed_of)),
        max_size=6,
    )
)
def test_a_bucket_is_read_as_it_was_written(entries: dict[str, Entry]) -> None:
    blob = strangers.write_bucket(entries)
    assert len(blob) <= 1 + strangers.MAX_ENTRY_BYTES * len(entries)
    assert list(strangers.read_bucket(blob).items()) == list(entries.items())
    for person, entry in entries.items():
        assert strangers.find(blob, person) == entry.stored
    assert strangers.find(blob, "f" * 32) is None or "f" * 32 in entries
    for size in range(1, len(blob)):
        try:
            found = strangers.read_bucket(blob[:size])
        except ValueError:
            continue
        assert len(found) < len(entries)
