"""The last 50 actions, ordered by (time, item, category, action). Commutative.

Slot ``(n - 1) % 50`` holds the newest of n: a new action overwrites the oldest, and the layout is a
function of the set and of n alone, so any split or order of the log gives the same bytes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features.columns import I64, Columns, Folded, Mask
from models.features.plain import Event, recents
from schemas.event import Merge

SIZE: Final = 50
DAY_MS: Final = 86_400_000
CAP: Final = 3
"""Actions of one person on one item in one UTC day that count in sums over people."""
ENTRY: Final = np.dtype(
    [("item", "<u8"), ("time", "<u4"), ("ms", "<u2"), ("category", "<u4"), ("action", "u1")]
)
FIELDS = (("n", "<u4"), ("ring", ENTRY, (SIZE,)))

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
    for person in np.flatnonzero(disordered):
        _one_by_one(rows, acts, folded, int(person))
    rows["n"] += acts.count.astype(np.uint32)


def _newest(rows: NDArray[np.void], n: I64) -> I64:
    """(U,) time of the newest entry, ms; -1 where the list is empty."""
    entry = rows["ring"][np.arange(len(rows)), (n - 1) % SIZE]
    return np.where(n > 0, entry["time"].astype(np.int64) * 1000 + entry["ms"], -1)


def _append(rows: NDArray[np.void], acts: Columns, n: I64, mask: Mask) -> None:
    mask = mask & (acts.rank >= acts.count[acts.who] - SIZE)  # the rest would be overwritten
    who = acts.who[mask]
    entries = np.empty(len(who), ENTRY)
    seconds, ms = np.divmod(acts.time[mask], 1000)
    entries["item"], entries["time"], entries["ms"] = acts.item[mask], seconds, ms
    entries["category"], entries["action"] = acts.category[mask], acts.action[mask]
    rows["ring"][who, (n[who] + acts.rank[mask]) % SIZE] = entries


def _look_back(rows: NDArray[np.void], acts: Columns, folded: Folded) -> None:
    """For people in order: an entry's age tells whether it still stands when the action comes."""
    held, n = rows["ring"]["item"], folded.before
    slot = np.arange(SIZE)
    age = (n[:, None] - 1 - slot) % SIZE
    age = np.where(age < n[:, None], age, SIZE)
    event, at = np.nonzero(held[acts.who] == acts.item[:, None])
    who = acts.who[event]
    stands = age[who, at] + acts.rank[event] < SIZE
    event, who, at = event[stands], who[stands], at[stands]
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
    for back in range(1, CAP + 1):
        same = (who[back:] == who[:-back]) & (item[back:] == item[:-back])
        if not same.any():
            return
        same &= rank[back:] - rank[:-back] <= SIZE
        folded.met[order[back:][same]] = True
        folded.repeats[order[back:]] += same & (day[back:] == day[:-back])


def _one_by_one(rows: NDArray[np.void], acts: Columns, folded: Folded, person: int) -> None:
    """For a person whose actions came out of order, or two in one millisecond."""
    row, n = rows[person], int(folded.before[person])
    entries: list[Key] = sorted(
        (time * 1000 + ms, item, category, action)
        for item, time, ms, category, action in row["ring"][: min(n, SIZE)].tolist()
    )
    start = int(acts.start[person])
    for i in range(start, start + int(acts.count[person])):
        time, item = int(acts.time[i]), int(acts.item[i])
        same = [key for key in entries if key[1] == item]
        folded.met[i] = bool(same)
        folded.repeats[i] = sum(key[0] // DAY_MS == time // DAY_MS for key in same)
        insort(entries, (time, item, int(acts.category[i]), int(acts.action[i])))
        del entries[:-SIZE]
    write(row, entries, n + int(acts.count[person]))


def write(row: np.void, entries: Sequence[Key], n: int) -> None:
    """Lays `entries` (oldest first, at most 50) out as the newest of n."""
    laid = np.array([(i, t // 1000, t % 1000, c, a) for t, i, c, a in entries], ENTRY)
    row["ring"][(n - len(laid) + np.arange(len(laid))) % SIZE] = laid


def recent(row: np.void, k: int = SIZE) -> NDArray[np.void]:
    """The newest `k` actions, newest first: dtype `ENTRY`, at most ``min(k, n, 50)`` rows."""
    n = int(row["n"])
    picked: NDArray[np.void] = row["ring"][(n - 1 - np.arange(min(k, n, SIZE))) % SIZE]
    return picked


def value(row: np.void) -> Any:
    return int(row["n"]), [tuple(entry) for entry in recent(row).tolist()]


def reference(events: Sequence[Event], merges: Sequence[Merge] = ()) -> Any:
    acts = recents(events)
    keys = [(e.time, e.item, e.category, e.action) for e in acts]
    keys += [(a.at, a.item, a.category, a.action) for merge in merges for a in merge.recent]
    newest = reversed(sorted(keys)[-SIZE:])
    n = len(acts) + sum(merge.entered for merge in merges)
    return n, [(i, t // 1000, t % 1000, c, a) for t, i, c, a in newest]
