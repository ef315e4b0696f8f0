"""The last 50 actions, ordered by (time, item, category, action). Commutative.

Slot ``(n - 1) % 50`` holds the newest of n: a new action overwrites the oldest. The layout is a function
of the set and of n alone, so any split or order of the log gives the same bytes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, Mask
from models.features.columns import Columns, Folded
from models.features.plain import Event, recents
from schemas.events import Merge
from schemas.times import DAY_MS

RING_SIZE: Final = 50
MIN_PEOPLE_FOR_ROUNDS: Final = 16
"""Fewer are cheaper one by one than by vectors."""
DAILY_CAP: Final = 3
"""Actions of one person on one item in one UTC day that count in sums over people."""
ENTRY: Final = np.dtype(
    [("item", "<u8"), ("time", "<u4"), ("ms", "<u2"), ("category", "<u4"), ("action", "u1")]
)
FIELDS = (("n", "<u4"), ("ring", ENTRY, (RING_SIZE,)))

Key = tuple[int, int, int, int]


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """Also fills `folded.met` and `folded.repeats`."""
    acts = folded.recent
    folded.met = np.zeros(len(acts), np.bool_)
    folded.repeats = np.zeros(len(acts), np.int64)
    if not len(acts):
        return
    newest = _newest(rows, folded.before)
    before = np.empty_like(acts.time)
    before[1:] = acts.time[:-1]
    opens = acts.rank == 0
    before[opens] = newest[acts.who[opens]]
    disordered = np.zeros(acts.people, np.bool_)
    disordered[acts.who[acts.time <= before]] = True
    _look_back(rows, acts, folded)
    _append(rows, acts, folded.before, ~disordered[acts.who])
    people = np.flatnonzero(disordered)
    rounds = _in_rounds(rows, acts, folded, people)
    for person in people[acts.count[people] > rounds]:
        _one_by_one(rows, acts, folded, int(person), rounds)
    rows["n"] += acts.count.astype(np.uint32)


def _newest(rows: NDArray[np.void], n: I64) -> I64:
    """(U,) time of the newest entry, ms; -1 where the ring is empty."""
    entry = rows["ring"][np.arange(len(rows)), (n - 1) % RING_SIZE]
    return np.where(n > 0, entry["time"].astype(np.int64) * 1000 + entry["ms"], -1)


def _append(rows: NDArray[np.void], acts: Columns, n: I64, mask: Mask) -> None:
    mask = mask & (acts.rank >= acts.count[acts.who] - RING_SIZE)  # the rest would be overwritten
    who = acts.who[mask]
    entries = np.empty(len(who), ENTRY)
    seconds, ms = np.divmod(acts.time[mask], 1000)
    entries["item"], entries["time"], entries["ms"] = acts.item[mask], seconds, ms
    entries["category"], entries["action"] = acts.category[mask], acts.action[mask]
    rows["ring"][who, (n[who] + acts.rank[mask]) % RING_SIZE] = entries


def _look_back(rows: NDArray[np.void], acts: Columns, folded: Folded) -> None:
    """`met` and `repeats` for people in order: an entry's age shows whether the ring still holds it at the
    action."""
    held, n = rows["ring"]["item"], folded.before
    slot = np.arange(RING_SIZE)
    age = (n[:, None] - 1 - slot) % RING_SIZE
    age = np.where(age < n[:, None], age, RING_SIZE)
    event, at = np.nonzero(held[acts.who] == acts.item[:, None])
    who = acts.who[event]
    present = age[who, at] + acts.rank[event] < RING_SIZE
    event, who, at = event[present], who[present], at[present]
    folded.met[event] = True
    same_day = (
        rows["ring"]["time"][who, at].astype(np.int64) * 1000 // DAY_MS
        == acts.time[event] // DAY_MS
    )
    folded.repeats += np.bincount(event[same_day], minlength=len(acts))
    _look_back_in_batch(acts, folded)


def _look_back_in_batch(acts: Columns, folded: Folded) -> None:
    order = np.lexsort((acts.item, acts.who))
    who, item, rank = acts.who[order], acts.item[order], acts.rank[order]
    day = acts.time[order] // DAY_MS
    for back in range(1, DAILY_CAP + 1):
        same = (who[back:] == who[:-back]) & (item[back:] == item[:-back])
        if not same.any():
            return
        same &= rank[back:] - rank[:-back] <= RING_SIZE
        folded.met[order[back:][same]] = True
        folded.repeats[order[back:]] += same & (day[back:] == day[:-back])


def _in_rounds(rows: NDArray[np.void], acts: Columns, folded: Folded, people: I64) -> int:
    """For people with actions out of order, or two in one millisecond: the first action of each, then the
    second, while `MIN_PEOPLE_FOR_ROUNDS` have another. The number of rounds."""
    people = people[np.argsort(-acts.count[people], kind="stable")]
    if len(people) < MIN_PEOPLE_FOR_ROUNDS:
        return 0
    count, n, age = acts.count[people], folded.before[people], np.arange(RING_SIZE)
    rounds, pairs = int(count[MIN_PEOPLE_FOR_ROUNDS - 1]), _pair(acts.category, acts.action)
    held = rows["ring"][people[:, None], (n[:, None] - 1 - age) % RING_SIZE]  # newest first
    time = held["time"].astype(np.int64) * 1000 + held["ms"]
    keys = [time, held["item"].copy(), _pair(held["category"], held["action"])]
    for r in range(rounds):
        some = np.count_nonzero(count > r)
        at = acts.start[people[:some]] + r
        new = [it[:, None] for it in (acts.time[at], acts.item[at], pairs[at])]
        old = [key[:some] for key in keys]
        present = age < (n[:some] + r)[:, None]
        same = present & (old[1] == new[1])
        folded.met[at] = same.any(1)
        folded.repeats[at] = (same & (old[0] // DAY_MS == new[0] // DAY_MS)).sum(1)
        later = present & _above(old, new)
        place = np.count_nonzero(later, 1)[:, None]
        for key, value in zip(old, new, strict=True):
            behind = np.concatenate((value, key[:, :-1]), 1)
            key[:] = np.where(later, key, np.where(age == place, value, behind))
    held["time"], held["ms"] = np.divmod(time, 1000)
    held["item"], held["category"], held["action"] = keys[1], keys[2] >> 8, keys[2] & 255
    n = n + np.minimum(count, rounds)
    rows["ring"][people[:, None], (n[:, None] - 1 - age) % RING_SIZE] = held
    return rounds


def _pair(category: NDArray[Any], action: NDArray[Any]) -> I64:
    """Both as one number, in the order of (category, action)."""
    pair: I64 = category.astype(np.int64) << 8 | action
    return pair


def _above(old: Sequence[NDArray[Any]], new: Sequence[NDArray[Any]]) -> Mask:
    """Whether the keys (time, item, pair) of `old` are greater than those of `new`."""
    (time, item, pair), (new_time, new_item, new_pair) = old, new
    rest = (item > new_item) | ((item == new_item) & (pair > new_pair))
    above: Mask = (time > new_time) | ((time == new_time) & rest)
    return above


def _one_by_one(
    rows: NDArray[np.void], acts: Columns, folded: Folded, person: int, done: int
) -> None:
    """The same for one person, whose first `done` actions are in the ring already."""
    row, n = rows[person], int(folded.before[person]) + done
    entries: list[Key] = sorted(
        (time * 1000 + ms, item, category, action)
        for item, time, ms, category, action in row["ring"][: min(n, RING_SIZE)].tolist()
    )
    start, count = int(acts.start[person]), int(acts.count[person])
    for i in range(start + done, start + count):
        time, item = int(acts.time[i]), int(acts.item[i])
        same = [key for key in entries if key[1] == item]
        folded.met[i] = bool(same)
        folded.repeats[i] = sum(key[0] // DAY_MS == time // DAY_MS for key in same)
        insort(entries, (time, item, int(acts.category[i]), int(acts.action[i])))
        del entries[:-RING_SIZE]
    write(row, entries, n - done + count)


def write(row: np.void, entries: Sequence[Key], n: int) -> None:
    """Writes `entries` (oldest first, at most 50) into the ring as the newest of n."""
    block = np.array([(i, t // 1000, t % 1000, c, a) for t, i, c, a in entries], ENTRY)
    row["ring"][(n - len(block) + np.arange(len(block))) % RING_SIZE] = block


def recent(row: np.void, k: int = RING_SIZE) -> NDArray[np.void]:
    """The newest `k` actions, newest first: dtype `ENTRY`, at most ``min(k, n, 50)`` rows."""
    n = int(row["n"])
    picked: NDArray[np.void] = row["ring"][(n - 1 - np.arange(min(k, n, RING_SIZE))) % RING_SIZE]
    return picked


def value(row: np.void) -> Any:
    return int(row["n"]), [tuple(entry) for entry in recent(row).tolist()]


def keys_of(value: Any) -> list[Key]:
    """The entries in a `value` of the ring, oldest first."""
    return sorted((time * 1000 + ms, item, c, a) for item, time, ms, c, a in value[1])


def reference(events: Sequence[Event], merges: Sequence[Merge] = (), before: Any = None) -> Any:
    acts, held = recents(events), (0, []) if before is None else before
    keys = keys_of(held)
    keys += [(e.time, e.item, e.category, e.action) for e in acts]
    keys += [(a.at, a.item, a.category, a.action) for merge in merges for a in merge.recent]
    newest = reversed(sorted(keys)[-RING_SIZE:])
    n = held[0] + len(acts) + sum(merge.entered for merge in merges)
    return n, [(i, t // 1000, t % 1000, c, a) for t, i, c, a in newest]
