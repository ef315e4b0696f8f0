"""The fold of a batch of actions into rows, by its two ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.people.batch import Effects
from flows.people.fold import _evicted_at
from models.features import registry
from models.features.act import ActionColumns, act_by_numpy
from models.features.columns import Columns
from models.features.overflow import Overflow
from models.features.registry import ROW
from schemas.actions import ACTIONS
from schemas.keys import PLAIN
from schemas.state.fences import Fence
from schemas.state.write import Write
from schemas.times import DAY_MS

BEGAN = 1_700_006_300_000
"""Not long before the end of a UTC day."""


def batch(rnd: np.random.Generator, people: int, spread: int, offset: int) -> ActionColumns:
    """Up to 9 actions a person, at times anywhere in `spread` minutes: equal, older and late ones."""
    n = int(rnd.integers(1, 9 * people))
    time = BEGAN + rnd.integers(0, spread, n) * 60_000 + rnd.integers(0, 2, n)
    if rnd.random() < 0.5:
        time.sort()
    return ActionColumns(
        slot=rnd.integers(0, people, n) * 3,
        offset=offset + np.arange(n) * 2,
        item=rnd.integers(1, 12, n).astype(np.uint64) << np.uint64(20),
        category=rnd.integers(0, 3, n).astype(np.uint32) << np.uint32(30),
        time=time,
        received=time + (rnd.random(n) < 0.1) * 8 * DAY_MS,
        action=rnd.integers(0, len(ACTIONS), n).astype(np.uint8),
        session=rnd.integers(0, 3, n).astype(np.uint64),
        identity=rnd.integers(1, 3, n).astype(np.uint32),
        flags=rnd.integers(0, 4, n).astype(np.uint8),
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([2, 60, 5000]))
def test_it_gives_what_the_fold_by_people_gives(seed: int, people: int, spread: int) -> None:
    rnd = np.random.default_rng(seed)
    rows, mine = np.zeros((2, people * 3), ROW)
    held: dict[int, Overflow] = {}
    mine_held: dict[int, Overflow] = {}
    for number in range(16):
        columns = batch(rnd, people, spread, number * 1000)
        expected = by_people(rows, columns, held, number * 1000)
        found = act_by_numpy(mine, columns, mine_held)
        a, at = expected["facts"], found.at
        assert (columns.offset[at] - number * 1000).tolist() == a.delta.tolist()
        assert columns.item[at].tolist() == a.item.tolist()
        assert columns.flags[at].tolist() == a.flags.tolist()
        assert found.pairs.tolist() == a.pairs.tolist()
        assert found.partner.tobytes() == a.partner.tobytes()
        assert found.lag.tobytes() == a.lag.tobytes()
        assert columns.offset[found.evicted_at].tolist() == expected["evicted_at"]
        assert found.evicted.tobytes() == expected["evicted"]
        assert found.people[found.recent_changed].tolist() == expected["recent_changed"]
        tallied = np.bincount(found.verdict, minlength=3)[1:].tolist()
        assert tallied == expected["tallied"]
        assert rows.tobytes() == mine.tobytes()
        assert stored(held) == stored(mine_held)


def stored(held: dict[int, Overflow]) -> dict[int, tuple[bool, bytes, int]]:
    return {slot: it.changes() for slot, it in held.items()}


def by_people(
    rows: Any, columns: ActionColumns, overflow: dict[int, Overflow], first: int
) -> dict[str, Any]:
    order = np.argsort(columns.slot, kind="stable")
    people, who = np.unique(columns.slot[order], return_inverse=True)
    grouped = Columns(
        who=who,
        late=(columns.received - columns.time > 7 * DAY_MS)[order],
        people=len(people),
        **{
            name: getattr(columns, name)[order]
            for name in ("offset", "item", "category", "time", "action", "session", "identity")
        },
        flags=columns.flags[order],
    )
    taken, held = rows[people], {}
    for i, slot in enumerate(people.tolist()):
        if slot in overflow:
            held[i] = overflow[slot]
    folded = registry.fold(taken, grouped, held)
    rows[people] = taken
    overflow.update((int(people[i]), it) for i, it in held.items())
    write = Write("people", 0, first, Fence("", 1, first + 1000, 0, 1), PLAIN)
    effects = Effects(write, first, np.zeros(1000, np.uint64))
    effects.add(grouped, folded)
    return {
        "facts": effects.facts(),
        "evicted_at": grouped.offset[_evicted_at(grouped, folded)].tolist(),
        "evicted": folded.evicted.tobytes(),
        "recent_changed": people[folded.recent.present].tolist(),
        "tallied": [effects.tallies["over_daily_cap"], effects.tallies["over_daily_limit"]],
    }
