"""The update of the list of recent actions, and what depends on its state at each action.

Most people's actions come by time: theirs are folded here, all at once. The others' are in `disordered`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, Mask
from models.features import days, disordered, ring, window
from models.features.columns import Columns, Folded
from models.features.evicted import Evicted
from models.features.overflow import DAILY_CAP, MAX_PER_DAY
from models.features.ring import COUNTED, ENTRY, IN_SESSION, RING_SIZE
from schemas.times import DAY_MS


def begin(rows: NDArray[np.void], folded: Folded) -> None:
    """Fills `folded.in_order`: an action is in order if it is not older than the newest entry of the list at
    that moment, or the list is empty, and is not late."""
    acts = folded.recent
    # the newest time so far of each person, by one running maximum: `who` lies above the 42 bits of a time
    whose = acts.who << 42
    time = np.where(acts.late, 0, acts.time)
    before = np.empty_like(time)
    before[1:] = np.maximum.accumulate(time + whose)[:-1] - whose[1:]
    newest = _newest(rows, folded.before)[acts.who]
    opens = acts.rank == 0
    before[opens] = newest[opens]
    before = np.maximum(before, newest)
    folded.in_order = (acts.time >= before) & ~acts.late
    folded.disordered = _disordered(rows, folded, (acts.time <= before) | acts.late)


def _disordered(rows: NDArray[np.void], folded: Folded, out: Mask) -> Mask:
    """(U,) the people with an action that is older, late, or as old as another, and the few whose days are
    not simple."""
    acts = folded.recent
    out |= (acts.rank == 0) & (acts.time // DAY_MS < rows["days"].max(1)[acts.who])
    found = np.zeros(acts.people, np.bool_)
    found[acts.who[out]] = True
    found |= acts.count >= MAX_PER_DAY
    near = MAX_PER_DAY - len(acts)
    for person, held in folded.overflow.items():
        if held.sizes[0] >= near or held.sizes[1] >= near:
            found[person] |= MAX_PER_DAY - max(held.sizes) <= acts.count[person]
    return found


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """Also fills all of `folded` that follows `session_rank`."""
    acts = folded.recent
    folded.met = np.zeros(len(acts), np.bool_)
    folded.repeats = np.zeros(len(acts), np.int64)
    folded.full = np.zeros(len(acts), np.bool_)
    if not len(acts):
        return
    _look_back(rows, acts, folded)
    ordered = ~folded.disordered
    if folded.overflow:
        days.repeat(rows, acts, np.flatnonzero(folded.repeats < DAILY_CAP), folded)
    window.update(rows, acts, folded)
    entries = _entries(acts, folded)
    evicted = Evicted()
    _append(rows, acts, entries, folded, ordered[acts.who], evicted)
    days.advance(rows, acts, ordered, folded)
    days.keep(rows, *evicted.joined(), folded.overflow)
    if folded.disordered.any():
        disordered.update(rows, acts, entries, folded, evicted)
    rows["n"] += np.bincount(acts.who[~acts.late], minlength=acts.people).astype(np.uint32)
    folded.evicted_who, folded.evicted = evicted.joined()


def _newest(rows: NDArray[np.void], n: I64) -> I64:
    """(U,) time of the newest entry, ms; -1 where the ring is empty."""
    entry = ring.at(rows, np.arange(len(rows)), n - 1)
    return np.where(n > 0, entry["time"].astype(np.int64) * 1000 + entry["ms"], -1)


def _entries(acts: Columns, folded: Folded) -> NDArray[np.void]:
    """(m,) the actions as entries."""
    made = np.empty(len(acts), ENTRY)
    made["time"], made["ms"] = np.divmod(acts.time, 1000)
    made["item"], made["category"], made["action"] = acts.item, acts.category, acts.action
    made["identity"] = acts.identity
    made["flags"] = IN_SESSION * folded.in_order + COUNTED * folded.counts
    return made


def _append(
    rows: NDArray[np.void],
    acts: Columns,
    entries: NDArray[np.void],
    folded: Folded,
    mask: Mask,
    evicted: Evicted,
) -> None:
    n = folded.before
    # the number in the ring of what each action drives out: below n it lies there, else in the batch
    number = n[acts.who] + acts.rank - RING_SIZE
    at = np.flatnonzero(mask & (number >= 0))
    if len(at):
        who, number = acts.who[at], number[at]
        gone = ring.at(rows, who, number)
        inside = number >= n[who]
        if inside.any():
            gone[inside] = ring.chosen(entries, (acts.start[who] + number - n[who])[inside])
        evicted.add(at, who, gone)
    mask = mask & (acts.rank >= acts.count[acts.who] - RING_SIZE)  # the rest would be overwritten
    who = acts.who[mask]
    ring.put(rows, who, n[who] + acts.rank[mask], ring.chosen(entries, mask))


def _look_back(rows: NDArray[np.void], acts: Columns, folded: Folded) -> None:
    """`met` and `repeats` for people in order. An entry's age shows whether the ring still holds it at the
    action; one of the same day that it no longer holds lies in the overflow."""
    held, n = rows["ring"]["item"], folded.before
    event, at = np.nonzero(held[acts.who] == acts.item[:, None])
    who = acts.who[event]
    age = (n[who] - 1 - at) % RING_SIZE
    there = age < n[who]
    event, who, at, age = event[there], who[there], at[there], age[there]
    folded.met[event[age + acts.rank[event] < RING_SIZE]] = True
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
        near = same & (rank[back:] - rank[:-back] <= RING_SIZE)
        folded.met[order[back:][near]] = True
        folded.repeats[order[back:]] += same & (day[back:] == day[:-back])
