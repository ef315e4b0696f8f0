"""The join of slates on stored bytes, by the kernel, against its definition by Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel
from models.outcomes import layout, reversibles
from models.outcomes.open_slates import Account, Links, Mark, Outcome, Reversible, decode, encode
from models.outcomes.slots import WINDOW_MS, Assignment, Shown
from models.outcomes.stored_join import (
    ARM,
    MOMENT,
    Changed,
    StoredJoin,
    columns,
    columns_by_python,
    may_convert,
    served_record,
    widths,
)
from models.outcomes.touched import Reach

pytestmark = pytest.mark.skipif(kernel is None, reason="no kernel was built")
T = 1_760_000_000_000
HOUR = 3_600_000
times = st.sampled_from([0, 0, 1, 1000, HOUR, 5 * HOUR, WINDOW_MS, WINDOW_MS + 1])
items = st.integers(1, 25)
assignments = st.builds(
    Assignment, st.sampled_from([5, 6, 2**32 - 1]), st.integers(1, 2), st.sampled_from([8, 8, 8, 9])
)
served = st.builds(
    Shown,
    st.integers(1, 40),
    times,
    st.sampled_from([3, 4]),
    st.lists(items, max_size=9),
    st.integers(-1, 10),
    st.lists(assignments, max_size=3),
)
acted = st.builds(Outcome, items, st.sampled_from([1, 2, 2]), times)
records = st.lists(served | st.tuples(st.integers(1, 40), acted), max_size=80)
reaches = st.sampled_from([Reach(), Reach(3, HOUR), Reach(1, 0)])
PURCHASES = reversibles.row(Reversible(1, 7, 2, 0, True))


def both(join: StoredJoin, stored: bytes, record: Any, now: int) -> Changed | None:
    """The kernel's answer, which is Python's."""
    if isinstance(record, Shown):
        shown = record._replace(at=max(0, now - record.at))
        found, expected = (
            join.serve(stored, shown, now % 99),
            join.serve_by_python(stored, shown, now % 99),
        )
    else:
        slate, outcome = record
        outcome = Outcome(outcome.item, outcome.state, max(0, now - outcome.at))
        found = join.act(stored, slate, outcome, PURCHASES, now % 99)
        expected = join.act_by_python(stored, slate, outcome, PURCHASES, now % 99)
    assert found == expected
    return found


@given(records, reaches, st.booleans(), st.lists(times, min_size=80, max_size=80))
def test_the_kernel_changes_an_account_as_python_does(
    drawn: list[Any], reach: Reach, linked: bool, gaps: list[int]
) -> None:
    join, now = StoredJoin(reach), T
    assert join.compiled
    links = Links(first=Mark("of", "link", T - 1)) if linked else None
    stored = encode(Account(newest=T, since=T, links=links)) if linked else b""
    for record, gap in zip(drawn, gaps, strict=False):
        now += gap
        changed = both(join, stored, record, now)
        if changed is not None:
            assert encode(decode(changed.stored)) == changed.stored
            stored = changed.stored


def test_a_year_of_slates_and_clicks() -> None:
    """Each slate of 12 items; two units; most slots are displayed, some clicked."""
    join, stored, now = StoredJoin(), b"", T
    for n in range(300):
        now += (n % 7) * HOUR
        held = [(n * 5 + k) % 200 + 8 for k in range(12)]
        named = [Assignment(5, 1, 8), Assignment(6, n // 100, 9)]
        changed = both(join, stored, Shown(n + 1, 0, 3, held, n % 14, named), now)
        assert changed is not None
        assert len(changed.moments) == 62 * 2
        for k in range(n % 8):
            action = n + 1, Outcome(held[k], 1 + k % 2, 0)
            changed = both(join, changed.stored, action, now)
            assert changed is not None
            assert changed.why == ""
        stored = changed.stored


def test_what_is_more_than_a_persons_own_slates_goes_to_python() -> None:
    join = StoredJoin()
    shown = Shown(1, T, 3, [7, 8], 1, [Assignment(5, 1, 8)])
    first = join.serve(b"", shown, 0)
    assert first is not None
    stored = first.stored
    assert join.serve(stored, shown, 0) is None  # it came before
    assert join.serve(stored, shown._replace(id=2, assigned=[Assignment(5, 1, 9)]), 0) is None
    assert join.act(stored, 2, Outcome(7, 2, T), b"", 0) is None  # it is not open
    assert join.act(stored, 1, Outcome(7, 2, T), PURCHASES, 0) is None  # it may settle a purchase
    assert join.act(stored, 1, Outcome(7, 3, T, 5), b"", 0) is None
    waits = decode(stored)
    waits.links = Links(to="another")
    assert join.serve(encode(waits), shown._replace(id=2), 0) is None
    early = encode(Account(newest=T, since=T, links=Links()))
    assert join.serve(early, shown._replace(at=T - 1), 0) is None
    assert join.serve(early, shown, 0) is not None


def test_why_an_outcome_does_not_count() -> None:
    join = StoredJoin()
    first = join.serve(b"", Shown(1, T, 3, [7, 8]), 0)
    assert first is not None
    click = Outcome(7, 2, T + 5)
    counted = join.act(first.stored, 1, click, b"", 0)
    assert counted is not None
    for outcome, why in (
        (click, "repeated"),
        (Outcome(9, 2, T), "unattributed:item"),
        (Outcome(8, 2, T + WINDOW_MS + 1), "unattributed:late"),
    ):
        assert join.act(counted.stored, 1, outcome, b"", 0) == Changed(
            counted.stored, b"", b"", why
        )
        assert join.act_by_python(counted.stored, 1, outcome, b"", 0) == Changed(
            counted.stored, b"", b"", why
        )


def test_a_purchase_may_convert_a_touched_slot_of_its_item() -> None:
    join = StoredJoin()
    shown = join.serve(b"", Shown(1, T, 3, [7, 8]), 0)
    assert shown is not None
    assert not may_convert(b"", 7)
    assert not may_convert(shown.stored, 7)  # it was not displayed
    clicked = join.act(shown.stored, 1, Outcome(7, 2, T + 5), b"", 0)
    assert clicked is not None
    assert may_convert(clicked.stored, 7)
    assert not may_convert(clicked.stored, 9)
    assert may_convert(encode(Account(links=Links())), 9)  # a guest may have touched one


def busy(slates: int) -> bytes:
    """An account with slates of times and units that differ, and touched slots."""
    join, stored = StoredJoin(), b""
    for n in range(slates):
        named = [Assignment(5, 1, 8), Assignment(6, n % 3, 9)][: n % 3]
        held = [(n * 3 + k) % 20 + 1 for k in range(n % 6 + 2)]
        changed = join.serve(
            stored, Shown(n + 1, T - 9000 + n // 2, 3 + n % 2, held, n % 3, named), 0
        )
        assert changed is not None
        changed = join.act(changed.stored, n + 1, Outcome(held[1], 1 + n % 2, T), b"", 0)
        assert changed is not None
        stored = changed.stored
    return stored


BUSY = [busy(n) for n in (1, 3, 20)]
damage = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3)


@given(st.sampled_from(BUSY), damage, st.sampled_from([0, 0, 1, 30]), st.integers(1, 20))
def test_damaged_bytes_are_refused_or_changed_as_python_does(
    whole: bytes, changes: list[tuple[int, int]], cut: int, slate: int
) -> None:
    join, stored = StoredJoin(), bytearray(whole)
    for at, value in changes:
        stored[at % len(stored)] = value
    blob = bytes(stored[: len(stored) - cut])
    if len(blob) > 1:
        # what follows is msgpack, which the kernel copies
        blob = bytes((blob[0], blob[1] & ~layout.REST)) + blob[2:]
    shown = Shown(99, T, 3, [1, 2, 3], 2, [Assignment(5, 1, 8)])
    same(join.serve(blob, shown, 0), lambda: join.serve_by_python(blob, shown, 0))
    click = Outcome(1, 2, T)
    same(
        join.act(blob, slate, click, b"", 0), lambda: join.act_by_python(blob, slate, click, b"", 0)
    )


def same(found: Changed | None, by_python: Callable[[], Changed | None]) -> None:
    """Python would write the same account in its one form."""
    if found is not None:
        assert found._replace(stored=encode(decode(found.stored))) == by_python()


@pytest.mark.parametrize("row", [ARM, MOMENT])
@pytest.mark.parametrize("n", [0, 1, 2, 37])
def test_rows_are_turned_into_columns(row: np.dtype[Any], n: int) -> None:
    rows = np.random.default_rng(n).bytes(n * row.itemsize)
    held = np.frombuffer(rows, row)
    assert columns(rows, widths(row)) == columns_by_python(rows, widths(row))
    assert columns(rows, widths(row)) == b"".join(held[it].tobytes() for it in row.names or ())


@given(st.binary(max_size=300), st.binary(max_size=80))
def test_any_bytes_do_no_harm(stored: bytes, record: bytes) -> None:
    assert kernel is not None
    out, sizes = kernel.ffi.new("uint8_t[]", 400), kernel.ffi.new("uint32_t[3]")
    for held in (stored, b"\x04" + stored, b""):
        for asked in (record, served_record(Shown(1, 2, 3, [4, 5, 6]))):
            kernel.lib.outcomes_serve(held, len(held), asked, len(asked), 0, out, len(out), sizes)
        kernel.lib.outcomes_act(held, len(held), 1, 2, 2, 3, 100, 9, 0, out, len(out), sizes)
