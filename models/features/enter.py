"""The update of the ring: actions take their places, and what is driven out is kept for the seen set."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, Mask
from models.features import ring
from models.features.columns import Columns, Folded
from models.features.ring import DAILY_CAP, ENTRY, RING_SIZE
from schemas.actions import RECENT
from schemas.times import DAY_MS

MIN_PEOPLE_FOR_ROUNDS: Final = 16
"""Fewer are cheaper one by one than by vectors."""


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """Also fills `folded.met` and `folded.repeats`."""
    acts, gone = folded.recent, _Gone()
    late = RECENT[columns.action] & columns.late
    if late.any():
        outside = columns.where(late)
        gone.add(outside.offset, outside.who, _entries(outside))
    folded.met = np.zeros(len(acts), np.bool_)
    folded.repeats = np.zeros(len(acts), np.int64)
    if not len(acts):
        folded.evicted_who, folded.evicted = gone.joined()
        return
    newest = _newest(rows, folded.before)
    before = np.empty_like(acts.time)
    before[1:] = acts.time[:-1]
    opens = acts.rank == 0
    before[opens] = newest[acts.who[opens]]
    disordered = np.zeros(acts.people, np.bool_)
    disordered[acts.who[acts.time <= before]] = True
    _look_back(rows, acts, folded)
    entries = _entries(acts)
    _append(rows, acts, entries, folded.before, ~disordered[acts.who], gone)
    people = np.flatnonzero(disordered)
    rounds = _in_rounds(rows, acts, folded, people, gone)
    for person in people[acts.count[people] > rounds]:
        _one_by_one(rows, acts, folded, int(person), rounds, gone)
    rows["n"] += acts.count.astype(np.uint32)
    folded.evicted_who, folded.evicted = gone.joined()


class _Gone:
    """What leaves the ring, or does not enter it: parts by offset of the action that did it."""

    def __init__(self) -> None:
        self._chunks: list[tuple[I64, I64, NDArray[np.void]]] = []

    def add(self, offset: I64, who: I64, entries: NDArray[np.void]) -> None:
        if len(entries):
            self._chunks.append((offset, who, entries))

    def joined(self) -> tuple[I64, NDArray[np.void]]:
        """Rows, ascending, and entries, of each person in the order of the log."""
        if not self._chunks:
            return np.empty(0, np.int64), np.empty(0, ENTRY)
        offset, who, entries = map(np.concatenate, zip(*self._chunks, strict=True))
        order = np.lexsort((offset, who))
        return who[order], entries[order]


def _entries(acts: Columns) -> NDArray[np.void]:
    """(n,) the actions as entries."""
    made = np.empty(len(acts), ENTRY)
    made["time"], made["ms"] = np.divmod(acts.time, 1000)
    made["item"], made["category"], made["action"] = acts.item, acts.category, acts.action
    made["identity"], made["flags"] = acts.identity, 0
    return made


def _newest(rows: NDArray[np.void], n: I64) -> I64:
    """(U,) time of the newest entry, ms; -1 where the ring is empty."""
    entry = rows["ring"][np.arange(len(rows)), (n - 1) % RING_SIZE]
    return np.where(n > 0, entry["time"].astype(np.int64) * 1000 + entry["ms"], -1)


def _append(
    rows: NDArray[np.void],
    acts: Columns,
    entries: NDArray[np.void],
    n: I64,
    mask: Mask,
    gone: _Gone,
) -> None:
    # the number in the ring of what each action drives out: below n it lies there, else in the batch
    number = n[acts.who] + acts.rank - RING_SIZE
    at = np.flatnonzero(mask & (number >= 0))
    if len(at):
        who, number = acts.who[at], number[at]
        held = number < n[who]
        out = rows["ring"][who, number % RING_SIZE]
        out[~held] = entries[(acts.start[who] + number - n[who])[~held]]
        gone.add(acts.offset[at], who, out)
    mask = mask & (acts.rank >= acts.count[acts.who] - RING_SIZE)  # the rest would be overwritten
    who = acts.who[mask]
    rows["ring"][who, (n[who] + acts.rank[mask]) % RING_SIZE] = entries[mask]


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


def _in_rounds(
    rows: NDArray[np.void], acts: Columns, folded: Folded, people: I64, gone: _Gone
) -> int:
    """For people with actions out of order, or two in one millisecond: the first action of each, then the
    second, while `MIN_PEOPLE_FOR_ROUNDS` have another. The number of rounds."""
    people = people[np.argsort(-acts.count[people], kind="stable")]
    if len(people) < MIN_PEOPLE_FOR_ROUNDS:
        return 0
    count, n, age = acts.count[people], folded.before[people], np.arange(RING_SIZE)
    rounds, entries = int(count[MIN_PEOPLE_FOR_ROUNDS - 1]), _entries(acts)
    batch = _columns_of(entries)
    held = rows["ring"][people[:, None], (n[:, None] - 1 - age) % RING_SIZE]  # newest first
    columns = _columns_of(held)
    for r in range(rounds):
        some = np.count_nonzero(count > r)
        at = acts.start[people[:some]] + r
        new = [it[at, None] for it in batch]
        old = [column[:some] for column in columns]
        present = age < (n[:some] + r)[:, None]
        same = present & (old[1] == new[1])
        folded.met[at] = same.any(1)
        folded.repeats[at] = (same & (old[0] // DAY_MS == new[0] // DAY_MS)).sum(1)
        later = present & _above(old, new)
        place = np.count_nonzero(later, 1)[:, None]
        full = np.flatnonzero(present[:, -1])
        out = _as_entries([column[full, -1] for column in old])
        outside = place[full, 0] == RING_SIZE
        out[outside] = entries[at[full[outside]]]
        gone.add(acts.offset[at[full]], people[full], out)
        for column, value in zip(old, new, strict=True):
            behind = np.concatenate((value, column[:, :-1]), 1)
            column[:] = np.where(later, column, np.where(age == place, value, behind))
    n = n + np.minimum(count, rounds)
    rows["ring"][people[:, None], (n[:, None] - 1 - age) % RING_SIZE] = _as_entries(columns)
    return rounds


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
    rows: NDArray[np.void], acts: Columns, folded: Folded, person: int, done: int, gone: _Gone
) -> None:
    """The same for one person, whose first `done` actions are in the ring already."""
    row, n = rows[person], int(folded.before[person]) + done
    held = sorted(map(ring.key, row["ring"][: min(n, RING_SIZE)].tolist()))
    start, count = int(acts.start[person]), int(acts.count[person])
    made = _entries(acts)
    out: list[ring.Key] = []
    for i, new in enumerate(
        map(ring.key, made[start + done : start + count].tolist()), start + done
    ):
        time, item = new[:2]
        same = [key for key in held if key[1] == item]
        folded.met[i] = bool(same)
        folded.repeats[i] = sum(key[0] // DAY_MS == time // DAY_MS for key in same)
        insort(held, new)
        if len(held) > RING_SIZE:
            out.append(held.pop(0))
    offset = acts.offset[start + count - len(out) : start + count]
    gone.add(offset, np.full(len(out), person), ring.entries(out))
    ring.write(row, held, n - done + count)
