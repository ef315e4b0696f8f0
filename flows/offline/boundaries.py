"""Where an offline fold ends its batches, so that every wanted state can be read between two of them."""

from __future__ import annotations

import numpy as np

from models.arrays import I64, U64


def boundaries(person: U64, places: I64, of: U64, most: int) -> tuple[list[int], list[int]]:
    """Ends of batches of at most `most` records, and for each cut the end at which to read its state.

    `person` (n,): whose each record is, by its number. Cut k wants the state of person `of[k]` after the
    records before number `places[k]`. Only a person's own records change their state, so any end between
    their record before the cut and the one after it will do; ends are as few as that allows, by the greedy
    choice of the latest one (stabbing intervals: Nandy, Asano 1995, among others).

    >>> boundaries(np.array([7, 8, 7, 8], np.uint64), np.array([2, 3]), np.array([7, 8], np.uint64), 100)
    ([2, 4], [2, 2])
    """
    n = len(person)
    own = _places_by_person(person, of)
    spans = []
    for k, (place, whose) in enumerate(zip(places.tolist(), of.tolist(), strict=True)):
        theirs = own[whose]
        at = int(np.searchsorted(theirs, place))
        first = int(theirs[at - 1]) + 1 if at else 0
        spans.append((int(theirs[at]) if at < len(theirs) else n, first, k))
    read_at = [0] * len(spans)
    chosen = {n}
    newest = 0  # the latest end so far; before the first record lies one, too
    for end, first, k in sorted(spans):
        multiple = end // most * most
        if max(newest, multiple) < first:
            newest = end
            chosen.add(end)
        read_at[k] = max(newest, multiple)
    chosen |= set(range(most, n, most))
    return sorted(chosen), read_at


def _places_by_person(person: U64, of: U64) -> dict[int, I64]:
    """The numbers of the records of each person in `of`, ascending."""
    found: dict[int, I64] = {whose: np.empty(0, np.int64) for whose in of.tolist()}
    at = np.flatnonzero(np.isin(person, of))
    order = np.argsort(person[at], kind="stable")
    at, whose = at[order], person[at][order]
    people, starts = np.unique(whose, return_index=True)
    stops = [*starts.tolist(), len(at)]
    for n, each in enumerate(people.tolist()):
        found[each] = at[stops[n] : stops[n + 1]]
    return found


def between_frames(
    offsets: I64, stops: list[int], places: I64, read_at: list[int]
) -> tuple[list[int], list[int]]:
    """`stops` and `read_at`, as `boundaries` gives them, moved to where no two records of one offset are cut
    apart. `offsets` (n,): of the records; `places`: numbers of records at which an offset begins.

    A state that was read before its place is read at the end of the frame, another one at its beginning: both
    lie on the same side of the place, so on the same side of the person's records.

    >>> offsets, places = np.array([4, 5, 5, 5, 6]), np.array([1, 4])
    >>> between_frames(offsets, [2, 5], places, [2, 2])
    ([1, 4, 5], [1, 4])
    """
    if (np.diff(offsets) > 0).all():
        return stops, read_at
    begins = np.append(np.flatnonzero(np.diff(offsets, prepend=-1)), len(offsets))

    def up(at: int) -> int:
        return int(begins[np.searchsorted(begins, at)])

    def down(at: int) -> int:
        return int(begins[np.searchsorted(begins, at, "right") - 1])

    moved = [
        up(at) if at <= place else down(at)
        for at, place in zip(read_at, places.tolist(), strict=True)
    ]
    return sorted({up(at) for at in stops} | {at for at in moved if at}), moved
