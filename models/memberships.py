"""Which items are in which categories: by slot its categories, by category its slots.

Both follow the catalogue change by change. A read costs by the candidates that it asks about, or by the items
of the category that it asks for, never by the catalogue; nothing is cached for the categories asked for.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int32]
Mask = NDArray[np.bool_]
MIN_ROOM: Final = 1024
"""Numbers that the pool has room for at first."""
MIN_STALE: Final = 16
"""A category's slots are packed where more than so many, and more than its items, have left it."""


class Memberships:
    """Categories are numbers, 0 is none. `primary` (capacity,): the primary category of each slot.

    The other categories of a slot are a run of the `pool`, from `starts` (capacity,) on and as long as
    `lengths` (capacity,) says: one that grows moves to the end of the pool, which is packed when it is full.
    The slots of a category may hold some that left it until they are packed. `layout` rises where another
    array takes the place of one of these.
    """

    def __init__(self, capacity: int) -> None:
        self.layout = 0
        self.primary = np.zeros(capacity, np.int32)
        self.starts, self.lengths = np.zeros(capacity, np.int64), np.zeros(capacity, np.int32)
        self.pool, self._end = np.zeros(MIN_ROOM, np.int32), 0
        self._slots: defaultdict[int, array[int]] = defaultdict(lambda: array("i"))
        self._sizes: defaultdict[int, int] = defaultdict(int)

    def grow(self, capacity: int) -> None:
        """Makes room for the slots below `capacity`."""
        for name in ("primary", "starts", "lengths"):
            column = getattr(self, name)
            room = np.zeros(capacity - len(column), column.dtype)
            setattr(self, name, np.concatenate([column, room]))
        self.layout += 1

    def of(self, slot: int) -> tuple[int, ...]:
        """The categories of a slot, the primary one first."""
        primary, start = int(self.primary[slot]), int(self.starts[slot])
        run = self.pool[start : start + int(self.lengths[slot])].tolist()
        return (primary, *run) if primary else ()

    def put(self, slot: int, numbers: tuple[int, ...]) -> None:
        """The slot is in these categories now, each once, the primary one first; () for an item that is
        gone."""
        before = self.of(slot)
        if before == numbers:
            return
        self.primary[slot] = numbers[0] if numbers else 0
        self._set_run(slot, numbers[1:])
        for number in set(before).difference(numbers):
            self._sizes[number] -= 1
            self._pack_slots(number)
        for number in set(numbers).difference(before):
            self._sizes[number] += 1
            self._slots[number].append(slot)
            self._pack_slots(number)

    def has(self, slots: Slots, number: int) -> Mask:
        """(n,) which of `slots` are in the category."""
        return self._matches(slots, lambda found: found == number)

    def has_any(self, slots: Slots, numbers: set[int]) -> Mask:
        """(n,) which of `slots` are in one of the categories."""
        wanted = np.array(list(numbers), np.int32)
        return self._matches(slots, lambda found: np.isin(found, wanted))

    def _matches(self, slots: Slots, wanted: Callable[[Slots], Mask]) -> Mask:
        """(n,) which of `slots` have a category that is `wanted`."""
        matches = wanted(self.primary[slots])
        lengths = self.lengths[slots]
        rows = np.flatnonzero(lengths)
        if len(rows):
            lengths = lengths[rows]
            others = self.pool[places_of_runs(self.starts[slots[rows]], lengths)]
            matches[np.repeat(rows, lengths)[wanted(others)]] = True
        return matches

    def size(self, number: int) -> int:
        """How many items are in the category."""
        return self._sizes.get(number, 0)

    def slots(self, number: int) -> Slots:
        """(m,) the slots in the category, in no order."""
        if number not in self._slots:
            return np.empty(0, np.int32)
        # a copy: the array cannot grow while a view of it is there
        found = np.frombuffer(self._slots[number], np.int32).copy()
        if len(found) > self._sizes[number]:  # some left, and some of these came back
            found = np.unique(found)
            found = found[self.has(found, number)]
        return found

    def _pack_slots(self, number: int) -> None:
        stale = len(self._slots[number]) - self._sizes[number]
        if stale > max(self._sizes[number], MIN_STALE):
            self._slots[number] = array("i", self.slots(number).tobytes())

    def _set_run(self, slot: int, others: tuple[int, ...]) -> None:
        if len(others) > self.lengths[slot]:
            self.lengths[slot] = 0
            if self._end + len(others) > len(self.pool):
                self._make_room(len(others))
            self.starts[slot] = self._end
            self._end += len(others)
        self.lengths[slot] = len(others)
        start = int(self.starts[slot])
        self.pool[start : start + len(others)] = others

    def _make_room(self, n: int) -> None:
        """Packs the pool; afterwards at least half of it is free."""
        slots = np.flatnonzero(self.lengths)
        lengths = self.lengths[slots]
        packed = self.pool[places_of_runs(self.starts[slots], lengths)]
        room = len(self.pool)
        while room < 2 * (len(packed) + n):
            room *= 2
        self.pool = np.zeros(room, np.int32)
        self.pool[: len(packed)] = packed
        self.layout += 1
        self.starts[slots] = np.cumsum(lengths, dtype=np.int64) - lengths
        self._end = len(packed)


def places_of_runs(starts: NDArray[np.int64], lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """(m,) the places of n runs in a pool, one run after the other; `starts` and `lengths` are (n,)."""
    first = np.cumsum(lengths, dtype=np.int64) - lengths
    places: NDArray[np.int64] = np.repeat(starts - first, lengths) + np.arange(int(lengths.sum()))
    return places
