"""The two UTC days of a person for which the cap counts exactly. Log-ordered.

An action of another day replaces the earlier of the two: so they are the newest day, and the day before it
or the one of a later action that is older.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask
from models.features.columns import Columns, Folded
from models.features.overflow import ITEM_BITS, Overflow
from models.features.plain import Event
from schemas.events import Merge
from schemas.times import DAY_MS

FIELDS = (("days", "<u2", (2,)),)


def advance(rows: NDArray[np.void], acts: Columns, ordered: Mask, folded: Folded) -> None:
    """Moves the days on for the people `ordered` (U,), whose actions come by time."""
    day = acts.time // DAY_MS
    before = np.empty_like(day)
    before[1:] = day[:-1]
    opens = acts.rank == 0
    before[opens] = rows["days"].max(1)[acts.who[opens]]
    steps = np.flatnonzero((day > before) & ordered[acts.who])
    if not len(steps):
        return
    who = acts.who[steps]
    first = np.flatnonzero(np.diff(who, prepend=-1))
    people, count = who[first], np.diff(first, append=len(who))
    start = rows["days"][people].argmin(1)
    last = steps[first + count - 1]
    place = (start + count - 1) % 2
    rows["days"][people, place] = day[last]
    many = count > 1
    rows["days"][people[many], 1 - place[many]] = before[last[many]]
    for person, at, more in zip(people.tolist(), start.tolist(), many.tolist(), strict=True):
        if held := folded.overflow.get(person):
            held.drop(at)
            if more:
                held.drop(1 - at)


def keep(
    rows: NDArray[np.void], who: I64, gone: NDArray[np.void], overflow: dict[int, Overflow]
) -> None:
    """Keeps those of `gone` (k,), what left the lists of the people `who` (each one's side by side), whose
    day is one of theirs."""
    same = rows["days"][who] == (gone["time"].astype(np.int64) * 1000 // DAY_MS)[:, None]
    at = np.flatnonzero(same.any(1))
    if not len(at):
        return
    numbers = _numbers(gone["item"][at], same[at].argmax(1))
    whose = who[at]
    start = np.flatnonzero(np.diff(whose, prepend=-1))
    stop = np.append(start[1:], len(at))
    whose = whose[start]
    for person, first, end in zip(whose.tolist(), start.tolist(), stop.tolist(), strict=True):
        held = overflow.get(person)
        if held is None:
            held = overflow[person] = Overflow()
        held.add(numbers[first:end])


def repeat(rows: NDArray[np.void], acts: Columns, at: I64, folded: Folded) -> None:
    """Adds to `folded.repeats` of the actions `at` what is kept of their item and day; fills `full`."""
    held, some = folded.overflow, np.zeros(acts.people, np.bool_)
    some[list(held)] = True
    at = at[some[acts.who[at]]]
    same = rows["days"][acts.who[at]] == (acts.time[at] // DAY_MS)[:, None]
    inside = same.any(1)
    at, place = at[inside], same[inside].argmax(1)
    if not len(at):
        return
    whose, numbers = acts.who[at].tolist(), _numbers(acts.item[at], place)
    folded.repeats[at] += [
        held[person].counts.get(number, 0) for person, number in zip(whose, numbers, strict=True)
    ]
    if any(it.is_full(0) or it.is_full(1) for it in held.values()):
        folded.full[at] = [
            held[person].is_full(number & 1) for person, number in zip(whose, numbers, strict=True)
        ]


def _numbers(items: U64, places: I64) -> list[int]:
    numbers: list[int] = ((items & np.uint64(ITEM_BITS)) | places.astype(np.uint64)).tolist()
    return numbers


def value(row: np.void) -> Any:
    return row["days"].tolist()


def reference(events: Sequence[Event], merges: Sequence[Merge] = (), before: Any = None) -> Any:
    days = list(before or (0, 0))
    for event in events:
        enter_day(days, event)
    return days


def enter_day(days: list[int], event: Event) -> int:
    """The slow definition of `days` after an action; gives the place of its day, -1: it has none."""
    day = event.time // DAY_MS
    if not event.recent_kind:
        return -1
    if day not in days:
        days[days.index(min(days))] = day
    return days.index(day)
