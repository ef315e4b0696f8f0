"""The list of recent actions of people with actions that are older than another, late, or as old.

Theirs are folded one after the other, because the list at each action decides: many people's by vectors
(the first action of each, then the second), few people's one by one.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask
from models.features import days, ring, window
from models.features.columns import Columns, Folded
from models.features.evicted import Evicted
from models.features.overflow import ITEM_BITS, Overflow
from models.features.ring import COUNTED, ENTRY, IN_SESSION, RING_SIZE, Key
from models.features.session import GAP_MS
from models.features.window import INFORMATIVE, MAX_LAG, MAX_PARTNERS
from schemas.times import DAY_MS

MIN_PEOPLE_FOR_ROUNDS: Final = 16
"""Fewer are cheaper one by one than by vectors."""


def update(
    rows: NDArray[np.void],
    acts: Columns,
    entries: NDArray[np.void],
    folded: Folded,
    evicted: Evicted,
) -> None:
    """`entries` (m,): the actions. Fills what `enter.update` fills, for the people in question."""
    people = np.flatnonzero(folded.disordered & (acts.count > 0))
    done = _in_rounds(rows, acts, entries, folded, evicted, people)
    for person in people[acts.count[people] > done].tolist():
        _one_by_one(rows, acts, entries, folded, evicted, person, done)


def _in_rounds(
    rows: NDArray[np.void],
    acts: Columns,
    entries: NDArray[np.void],
    folded: Folded,
    evicted: Evicted,
    people: I64,
) -> int:
    """The first action of each, then the second, while `MIN_PEOPLE_FOR_ROUNDS` have another. The number of
    rounds."""
    people = people[np.argsort(-acts.count[people], kind="stable")]
    if len(people) < MIN_PEOPLE_FOR_ROUNDS:
        return 0
    count, n, age = acts.count[people], folded.before[people], np.arange(RING_SIZE)
    rounds = int(count[MIN_PEOPLE_FOR_ROUNDS - 1])
    columns = _columns_of(ring.at(rows, people[:, None], n[:, None] - 1 - age))
    for r in range(rounds):
        some = np.count_nonzero(count > r)
        who = people[:some]
        at = acts.start[who] + r
        old, present = [column[:some] for column in columns], age < n[:some, None]
        _judge(rows, acts, folded, who, at, old, present)
        entries["flags"][at] = IN_SESSION * folded.in_order[at] + COUNTED * folded.counts_of(at)
        new = _columns_of(ring.chosen(entries, at)[:, None])
        later, late = present & _above(old, new), acts.late[at]
        place = np.count_nonzero(later, 1)
        _pair(acts, folded, at, old, present, place)
        outside = late | (place == RING_SIZE)
        out = _as_entries([column[:, -1] for column in old])
        out[outside] = ring.chosen(entries, at[outside])
        gone = np.flatnonzero(outside | present[:, -1])
        out = ring.chosen(out, gone)
        evicted.add(at[gone], who[gone], out)
        days.keep(rows, who[gone], out, folded.overflow)
        later[late], place[late] = True, RING_SIZE
        for column, value in zip(old, new, strict=True):
            behind = np.concatenate((value, column[:, :-1]), 1)
            column[:] = np.where(later, column, np.where(age == place[:, None], value, behind))
        n[:some] += ~late
    ring.put(rows, people[:, None], n[:, None] - 1 - age, _as_entries(columns))
    return rounds


def _judge(
    rows: NDArray[np.void],
    acts: Columns,
    folded: Folded,
    who: I64,
    at: I64,
    old: Sequence[NDArray[Any]],
    present: Mask,
) -> None:
    """`met`, `repeats`, `full` of the actions `at`, one a person, and the days of those people."""
    day = acts.time[at] // DAY_MS
    same = present & (old[1] == acts.item[at, None])
    folded.met[at] = same.any(1) & ~acts.late[at]
    folded.repeats[at] = (same & (old[0] // DAY_MS == day[:, None])).sum(1)
    held = rows["days"][who]
    new = np.flatnonzero((held != day[:, None]).all(1))
    place = held[new].argmin(1)
    rows["days"][who[new], place] = day[new]
    if folded.overflow:
        for person, one in zip(who[new].tolist(), place.tolist(), strict=True):
            if overflow := folded.overflow.get(person):
                overflow.drop(one)
        days.repeat(rows, acts, at, folded)


def _pair(
    acts: Columns,
    folded: Folded,
    at: I64,
    old: Sequence[NDArray[Any]],
    present: Mask,
    place: I64,
) -> None:
    """`partners` and `reach` of the actions `at`, one a person."""
    speaks = INFORMATIVE[acts.action[at]] & folded.counts_of(at)
    items = np.where(INFORMATIVE[old[2] & 255], old[1], 0).astype(np.uint64)
    back = np.zeros((len(at), MAX_LAG), np.uint64)
    ordered = np.flatnonzero(speaks & folded.in_order[at])
    chosen = (present & (old[3] & IN_SESSION != 0))[ordered]
    back[ordered], _ = window.newest_chosen(items[ordered], chosen)
    older = np.flatnonzero(speaks & ~folded.in_order[at] & ~acts.late[at])
    slot = place[older, None] + np.arange(MAX_LAG)
    there = slot < np.count_nonzero(present[older], 1)[:, None]
    slot = np.minimum(slot, RING_SIZE - 1)
    time = np.take_along_axis(old[0][older], slot, 1)
    before = np.concatenate((acts.time[at[older], None], time[:, :-1]), 1)
    near = np.logical_and.accumulate(there & (before - time <= GAP_MS), axis=1)
    folded.reach[at[older]] = np.count_nonzero(near, 1)
    back[older] = np.where(there, np.take_along_axis(items[older], slot, 1), 0)
    folded.partners[at] = window.nearest(back, acts.item[at])


def _columns_of(entries: NDArray[np.void]) -> list[NDArray[Any]]:
    """Entries as columns that compare in their order: time in ms, item, category and action, identity and
    flags."""
    return [
        entries["time"].astype(np.int64) * 1000 + entries["ms"],
        entries["item"].copy(),
        entries["category"].astype(np.int64) << 8 | entries["action"],
        entries["identity"].astype(np.int64) << 8 | entries["flags"],
    ]


def _as_entries(columns: Sequence[NDArray[Any]]) -> NDArray[np.void]:
    """The opposite of `_columns_of`."""
    time, item, pair, identity = columns
    made = np.empty(time.shape, ENTRY)
    made["time"], made["ms"] = np.divmod(time, 1000)
    made["item"], made["category"], made["action"] = item, pair >> 8, pair & 255
    made["identity"], made["flags"] = identity >> 8, identity & 255
    return made


def _above(old: Sequence[NDArray[Any]], new: Sequence[NDArray[Any]]) -> Mask:
    """Whether the entries of `old` come after those of `new`, as `_columns_of` gives them."""
    above: Mask = old[3] > new[3]
    for held, value in zip(old[2::-1], new[2::-1], strict=True):
        above = (held > value) | ((held == value) & above)
    return above


def _one_by_one(
    rows: NDArray[np.void],
    acts: Columns,
    entries: NDArray[np.void],
    folded: Folded,
    evicted: Evicted,
    person: int,
    done: int,
) -> None:
    """The same for one person, whose first `done` actions are in the list already."""
    row, start, end = (
        rows[person],
        int(acts.start[person]),
        int(acts.start[person] + acts.count[person]),
    )
    n = int(folded.before[person]) + int(np.count_nonzero(~acts.late[start : start + done]))
    held = sorted(map(ring.key, row["ring"][: min(n, RING_SIZE)].tolist()))
    of_days, overflow = row["days"].tolist(), folded.overflow.get(person)
    gone: list[Key] = []
    at: list[int] = []
    for i, new in enumerate(map(ring.key, entries[start + done : end].tolist()), start + done):
        time, item, late = new[0], new[1], bool(acts.late[i])
        if time // DAY_MS not in of_days:
            place = of_days.index(min(of_days))
            of_days[place] = time // DAY_MS
            if overflow:
                overflow.drop(place)
        place = of_days.index(time // DAY_MS)
        same = [key[0] for key in held if key[1] == item]
        folded.met[i] = bool(same) and not late
        folded.repeats[i] = sum(held_at // DAY_MS == time // DAY_MS for held_at in same)
        if overflow:
            folded.repeats[i] += overflow.count(item, place)
            folded.full[i] = overflow.is_full(place)
        folded.partners[i] = 0
        counts, in_order = bool(folded.counts_of(i)), bool(folded.in_order[i])
        new = (*new[:5], IN_SESSION * in_order + COUNTED * counts)
        if counts and not late and INFORMATIVE[new[3]]:
            if in_order:
                near = [key for key in held if key[5] & IN_SESSION][::-1]
            else:
                near, folded.reach[i] = _before(held, new)
            _fill(folded.partners[i], near[:MAX_LAG], item)
        if not late:
            n += 1
            insort(held, new)
            if len(held) <= RING_SIZE:
                continue
            new = held.pop(0)
        at.append(i)
        gone.append(new)
        if new[0] // DAY_MS in of_days:
            if overflow is None:
                overflow = folded.overflow[person] = Overflow()
            overflow.add([new[1] & ITEM_BITS | of_days.index(new[0] // DAY_MS)])
    row["days"] = of_days
    evicted.add(np.array(at, np.int64), np.full(len(at), person), ring.entries(gone))
    ring.write(row, held, n)


def _before(held: Sequence[Key], new: Key) -> tuple[list[Key], int]:
    """The 16 entries before the place of `new`, the nearest first, and how many of them come before a gap
    that ends a session."""
    end = bisect(held, new)
    near = list(reversed(held[max(0, end - MAX_LAG) : end]))
    at = new[0]
    for reach, key in enumerate(near):
        if at - key[0] > GAP_MS:
            return near, reach
        at = key[0]
    return near, len(near)


def _fill(partners: U64, near: Sequence[Key], item: int) -> None:
    """Writes those of `near` that are partners of `item`, each at its lag."""
    found: set[int] = set()
    for lag, (_, other, _, action, _, _) in enumerate(near):
        if other != item and other not in found and INFORMATIVE[action]:
            found.add(other)
            partners[lag] = other
            if len(found) == MAX_PARTNERS:
                return
