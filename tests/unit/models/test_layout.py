"""The stored bytes of a person's slates."""

from __future__ import annotations

from contextlib import suppress
from operator import attrgetter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.outcomes import layout
from models.outcomes.open_slates import (
    Account,
    Conversion,
    Converted,
    Guest,
    Links,
    Mark,
    OpenSlate,
    Outcome,
    Unit,
    Waiting,
    decode,
    encode,
)

T = 1_760_000_000_000
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
some_items = st.lists(st.integers(1, 30) | u64, max_size=12, unique=True)
places = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@st.composite
def slates(draw: Any) -> OpenSlate:
    items = draw(some_items)
    states = draw(
        st.lists(st.sampled_from([1, 1, 3, 5, 0]), min_size=len(items), max_size=len(items))
    )
    return OpenSlate(
        draw(u64),
        draw(st.integers(T - 90_000_000, T)),
        draw(st.sampled_from([1, 2, 2**32 - 1])),
        b"".join(item.to_bytes(8, "little") for item in items),
        bytearray(states),
        draw(st.integers(-1, max(0, len(items) - 1))),
        draw(places),
    )


def ordered(most: int) -> Any:
    return st.lists(slates(), max_size=most).map(lambda it: sorted(it, key=attrgetter("at", "id")))


units = st.builds(Unit, u32, u16, u32, st.tuples(*[u16] * 6))
marks = st.builds(Mark, st.just("of"), st.just("link"), st.just(T))
guests = st.builds(Guest, st.just("g"), st.just(T), ordered(2), st.lists(units, max_size=1))
waiting = st.builds(Waiting, u64, st.lists(st.builds(Outcome, u64, st.just(2), st.just(T), u32)))
links = st.builds(
    Links, st.sampled_from(["", "to"]), st.none() | marks, guests=st.lists(guests, max_size=2)
)
converted = st.builds(
    Converted,
    u32,
    u64,
    st.builds(Conversion, st.just(""), u32, u32, st.booleans(), st.just(4), places),
)
accounts = st.builds(
    Account,
    newest=st.just(T),
    since=st.integers(0, T),
    slates=ordered(20),
    units=st.lists(units, max_size=3),
    touched=st.lists(st.binary(min_size=24, max_size=24), max_size=3).map(b"".join),
    unit_sets=st.lists(places, max_size=3),
    waiting=st.lists(waiting, max_size=1),
    links=st.none() | links,
    conversions=st.lists(converted, max_size=1),
)


def as_version_3(account: Account) -> bytes:
    fields = attrgetter(*Account.__struct_fields__[1:-3])(account)
    return msgspec.msgpack.encode((3, *fields))


@given(accounts)
def test_an_account_is_read_as_it_was_written(account: Account) -> None:
    blob = encode(account)
    assert blob[1] != layout.WHOLE
    assert decode(blob) == account
    assert encode(decode(blob)) == blob
    assert decode(as_version_3(account)) == account


@pytest.mark.parametrize(
    "account",
    [
        Account(newest=T, slates=[OpenSlate(1, T, 2, b"", bytearray(), -1, (70_000,))]),
        Account(newest=T, slates=[OpenSlate(1, T + 1, 2, b"", bytearray(), -1, ())]),
        Account(newest=T, units=[Unit(1, 1, 1, (65_536, 0, 0, 0, 0, 0))]),
        Account(newest=T, slates=[OpenSlate(1, T, 2, bytes(8 * 256), bytearray(256), -1, ())]),
    ],
)
def test_what_does_not_fit_a_column_is_stored_as_a_whole(account: Account) -> None:
    blob = encode(account)
    assert blob[:2] == bytes((layout.VERSION, layout.WHOLE))
    assert decode(blob) == account


def test_items_of_many_slates_are_stored_once() -> None:
    def stored(pool: int) -> int:
        held = [
            OpenSlate(n, T, 7, b"".join((n * 10 % pool + k + 1).to_bytes(8, "little") for k in range(10)),
                      bytearray(b"\1" * 10), -1, ())
            for n in range(20)
        ]  # fmt: skip
        return len(encode(Account(newest=T, slates=held)))

    assert stored(10) == 28 + 8 * 10 + 4 + 20 * (17 + 10)
    assert stored(200) == 28 + 8 * 200 + 4 + 20 * (17 + 10)


@settings(max_examples=30)
@given(accounts, st.data())
def test_damaged_bytes_are_refused_or_another_account(account: Account, data: Any) -> None:
    blob = encode(account)
    cut = blob[: data.draw(st.integers(1, len(blob) - 1))]
    with pytest.raises(ValueError, match="read"):
        decode(cut)
    at = data.draw(st.integers(0, len(blob) - 1))
    changed = blob[:at] + bytes((data.draw(st.integers(0, 255)),)) + blob[at + 1 :]
    with suppress(ValueError):
        assert isinstance(decode(changed), Account)
    with pytest.raises(ValueError, match="read"):
        decode(blob + b"\xc1")
