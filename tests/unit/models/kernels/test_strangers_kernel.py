"""Entries of strangers: the kernel gives what Python defines, and none is larger than its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from models.outcomes import join, open_slates, strangers
from models.outcomes.open_slates import Account
from models.outcomes.slots import Assignment, Shown
from models.outcomes.strangers import Entry

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


@given(SLATES)
def test_what_is_cut_and_shown_is_pythons(slates: list[Shown]) -> None:
    stored = account_of(slates)
    whole, made = open_slates.decode(stored), strangers.cut(stored)
    assert len(made) <= strangers.MAX_ACCOUNT_BYTES
    if len(stored) > strangers.MAX_ACCOUNT_BYTES:
        assert made == strangers.cut_by_python(stored)
    assert strangers.shown(made) == strangers.shown_by_python(made)
    held = open_slates.decode(made)
    kept = len(held.slates)
    for before, after in zip(whole.slates[len(whole.slates) - kept :], held.slates, strict=True):
        assert (before.id, before.at, before.placement) == (after.id, after.at, after.placement)
        assert before.items.startswith(after.items)
    assert held.units == whole.units[: len(held.units)]
    assert (held.newest, held.since) == (whole.newest, whole.since)


@given(st.binary(max_size=300))
def test_other_bytes_are_no_entry(data: bytes) -> None:
    for call in (strangers.shown, strangers.cut):
        try:
            call(data)
        except ValueError:
            continue


@given(
    st.dictionaries(
        st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}"),
        st.builds(Entry, st.integers(0, 2**63), st.binary(max_size=strangers.MAX_ACCOUNT_BYTES)),
        max_size=6,
    )
)
def test_a_bucket_is_read_as_it_was_written(entries: dict[str, Entry]) -> None:
    blob = strangers.write_bucket(entries)
    assert len(blob) <= 1 + strangers.MAX_ENTRY_BYTES * len(entries)
    assert list(strangers.read_bucket(blob).items()) == list(entries.items())
    for person, entry in entries.items():
        assert strangers.find(blob, person) == entry.stored
    for size in range(1, len(blob)):
        try:
            found = strangers.read_bucket(blob[:size])
        except ValueError:
            continue
        assert len(found) < len(entries)
