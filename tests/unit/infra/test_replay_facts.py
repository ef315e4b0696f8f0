"""Facts in files of time are the facts in memory, in order of time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.apps.replay import facts
from infra.apps.replay.facts import FactsByTime
from schemas.state.facts import NO_ACTIONS, Actions

Drawn = list[tuple[int, int, int]]
"""(time, item, pairs) of each fact."""
DRAWN = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 3)), max_size=40)


def actions_of(drawn: Drawn) -> Actions:
    time, item, pairs = np.array(drawn or np.empty((0, 3)), np.int64).T
    partner = [10 * n + k for n, (_, _, count) in enumerate(drawn) for k in range(count)]
    return Actions(
        np.arange(len(drawn), dtype=np.uint32),
        item.astype(np.uint64),
        time.astype(np.uint32),
        np.ones(len(drawn), np.uint8),
        np.zeros(len(drawn), np.uint8),
        pairs.astype(np.uint8),
        np.array(partner, np.uint64),
        np.array([it % 10 + 1 for it in partner], np.uint8),
    )


def plain(actions: Actions) -> list[tuple[int, int, tuple[int, ...]]]:
    """(time, item, partners) of each fact."""
    stops = np.cumsum(actions.pairs.astype(np.int64))
    partners = np.split(actions.partner, stops[:-1]) if len(stops) else []
    rows = zip(actions.time.tolist(), actions.item.tolist(), partners, strict=True)
    return [(time, item, tuple(it.tolist())) for time, item, it in rows]


@given(st.lists(DRAWN, max_size=4), st.integers(0, 21), st.data())
def test_what_is_read_is_what_was_added_by_time(
    batches: list[Drawn], second: int, data: st.DataObject
) -> None:
    every = [plain(actions_of(drawn)) for drawn in batches]
    expected = sorted((fact for batch in every for fact in batch), key=lambda fact: fact[0])
    times = np.array([fact[0] for fact in expected], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "FACTS_PER_BUCKET", data.draw(st.sampled_from([2, 7, 100])))
        held = FactsByTime(times, len(times))
    for drawn in batches:
        held.add(actions_of(drawn))
    assert len(held) == len(expected)
    assert held.place(second) == int((times < second).sum())
    first = data.draw(st.integers(0, len(expected)))
    end = data.draw(st.integers(first, len(expected)))
    assert plain(held.entry(first, end).actions) == expected[first:end]
    at = first
    for entry in held.entries(first, end):
        assert entry.first == at
        assert plain(entry.actions) == expected[at : entry.next]
        assert entry.actions.delta.tolist() == list(range(entry.next - at))
        at = entry.next
    assert at == end


def test_no_facts_are_no_entries() -> None:
    held = FactsByTime(np.empty(0, np.int64), 0)
    held.add(NO_ACTIONS)
    assert (len(held), held.place(5), list(held.entries(0, 0))) == (0, 0, [])
    assert len(held.entry(0, 0).actions.item) == 0
