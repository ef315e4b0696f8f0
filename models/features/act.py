"""The fold of a batch of actions into people's rows: what changes in the rows, which facts the actions make,
and what leaves the lists.

A batch is columns of actions of several people and partitions. People do not depend on each other, so the
order of the partitions changes nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask
from models.features import compiled, registry, window
from models.features.columns import ActionColumns, Columns, Folded
from models.features.overflow import OVER_DAILY_CAP, OVER_DAILY_LIMIT, Overflow
from models.features.ring import RING_SIZE
from schemas.state.facts import SAME_SESSION
from schemas.times import DAY_MS

LATE_MS: Final = 7 * DAY_MS
"""An action that arrives so long after it occurred does not enter the list of recent actions."""
VERDICTS: Final = ("", OVER_DAILY_CAP, OVER_DAILY_LIMIT)
"""By verdict of an action, the reason under which it is tallied; the first makes a fact."""
_RAW: Final = np.dtype((np.void, registry.ROW.itemsize))


class Acted(NamedTuple):
    """What a batch of n actions of U people did besides the rows: k facts, e entries that left a list or did
    not enter it."""

    people: I64
    """(U,) the slots of those who acted, ascending."""
    recent_changed: Mask
    """(U,) whether an action was of a kind that enters the list of recent actions."""
    verdict: NDArray[np.uint8]
    """(n,) index into `VERDICTS`."""
    at: I64
    """(k,) ascending: index of the action of each fact."""
    pairs: NDArray[np.uint8]
    """(k,) how many partners each fact has."""
    partner: U64
    lag: NDArray[np.uint8]
    """Both as `schemas.state.facts.Actions` has them."""
    evicted_at: I64
    """(e,) index of the action that drove each entry out, or did not enter itself."""
    evicted: NDArray[np.void]
    """(e,) `ring.ENTRY`: by slot, ascending; of each person in the order of the log."""
    late: Mask
    """(n,) whether the action came more than `LATE_MS` after it occurred."""


def act_by_numpy(
    rows: NDArray[np.void], columns: ActionColumns, overflow: dict[int, Overflow]
) -> Acted:
    """Folds the actions into `rows` (all rows of the cache, changed in place at the slots). `overflow`: by
    slot, of all people of the batch who have any; it is changed."""
    order = np.argsort(columns.slot, kind="stable")
    people, who = np.unique(columns.slot[order], return_inverse=True)
    late = columns.received - columns.time > LATE_MS
    by_person = grouped(columns, order, who, len(people), late)
    raw = rows.view(_RAW)
    taken = raw[people].view(registry.ROW)
    index = {slot: i for i, slot in enumerate(people.tolist())} if overflow else {}
    held = {index[slot]: it for slot, it in overflow.items() if slot in index}
    folded = registry.fold(taken, by_person, held)
    raw[people] = taken.view(_RAW)
    overflow.update((int(people[i]), it) for i, it in held.items())
    changed = np.zeros(len(people), np.bool_)
    changed[folded.recent.present] = True
    verdict, at, pairs, partner, lag = _facts(folded, order)
    evicted_at = order[_evicted_at(folded)]
    return Acted(
        people, changed, verdict, at, pairs, partner, lag, evicted_at, folded.evicted, late
    )


def act(rows: NDArray[np.void], columns: ActionColumns, overflow: dict[int, Overflow]) -> Acted:
    """`act_by_numpy`, by the kernel where there is one. Errors: IndexError where a slot has no row."""
    runs = compiled.RUNS
    if runs is None or not runs.complete:
        return act_by_numpy(rows, columns, overflow)
    return Acted(*compiled.act(rows, columns, overflow, runs, partial(grouped, columns)))


def grouped(columns: ActionColumns, order: I64, who: I64, people: int, late: Mask) -> Columns:
    """The actions `order` (n,), sorted by person: those of the rows `who` (n,), of `people` in all."""
    return Columns(
        who=who,
        offset=columns.offset[order],
        item=columns.item[order],
        category=columns.category[order],
        time=columns.time[order],
        action=columns.action[order],
        session=columns.session[order],
        identity=columns.identity[order],
        flags=columns.flags[order],
        late=late[order],
        people=people,
    )


def _facts(
    folded: Folded, order: I64
) -> tuple[NDArray[np.uint8], I64, NDArray[np.uint8], U64, NDArray[np.uint8]]:
    """`verdict`, `at`, `pairs`, `partner` and `lag` of `Acted`: at most 3 facts of a person, item and UTC
    day."""
    entered = order[folded.entered]
    verdict = np.zeros(len(order), np.uint8)
    verdict[entered] = np.where(folded.full, 2, ~folded.counts)
    partners = np.zeros((len(order), window.MAX_LAG), np.uint64)
    reach = np.zeros(len(order), np.int64)
    if len(entered):
        partners[entered], reach[entered] = folded.partners, folded.reach
    at = np.flatnonzero(verdict == 0)
    partners, reach = partners[at], reach[at]
    present = partners != 0
    owner, lag = np.nonzero(present)
    same_session = np.where(lag < reach[owner], SAME_SESSION, 0)
    return (
        verdict,
        at,
        present.sum(1, dtype=np.uint8),
        partners[present],
        (lag + 1 | same_session).astype(np.uint8),
    )


def _evicted_at(folded: Folded) -> I64:
    """(e,) for each entry of `folded.evicted` the index of the action that drove it out: one that came late,
    or found the list full."""
    acts = folded.recent
    enters = ~acts.late
    # how many had entered the list before each: those of the batch, by one running sum
    earlier: I64 = np.cumsum(enters) - enters
    earlier -= earlier[acts.start[acts.who]]
    full = folded.before[acts.who] + earlier >= RING_SIZE
    found: I64 = np.flatnonzero(folded.entered)[full | acts.late]
    return found
