"""The neighbours of all items: lists by slot in a few arrays, rewritten a list at a time."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.memberships import Slots, places_of_runs
from schemas.state import tables

MIN_ROOM: Final = 1024
"""Neighbours that the pools have room for at first."""
ROOM_STEP: Final = 8
"""A list has room for the next multiple of so many neighbours, so that it may grow where it lies."""


class Neighbours(NamedTuple):
    """Best first; `scores` in (0, 1], and what they are made of (`schemas.state.tables.NEIGHBOUR`). Also of
    several lists, one after the other."""

    slots: Slots
    scores: NDArray[np.float32]
    forward: NDArray[np.float16]
    backward: NDArray[np.float16]

    @classmethod
    def of(cls, slots: Slots, listed: NDArray[np.void]) -> Neighbours:
        """`listed` (n,): rows of `NEIGHBOUR`, whose items have these `slots`."""
        columns = (np.ascontiguousarray(listed[name]) for name in ("score", "forward", "backward"))
        return cls(slots, *columns)


NO_NEIGHBOURS: Final = Neighbours.of(np.empty(0, np.int32), np.empty(0, tables.NEIGHBOUR))


class Lists(NamedTuple):
    """n lists: `owners` (n,) distinct slots, `lengths` (n,), and the neighbours of one after the other."""

    owners: Slots
    lengths: NDArray[np.int32]
    listed: Neighbours


class Runs(NamedTuple):
    """m neighbours of n lists: `places` (m,) in the pools, one list after the other, and `which` (m,) of the
    n it is of, ascending."""

    places: NDArray[np.int64]
    which: NDArray[np.intp]


class NeighbourLists:
    """By slot (capacity,) `starts` and `lengths` of a list in the pools, which are `slots`, `scores`,
    `forward` and `backward` as `Neighbours` has them.

    A list is rewritten where it lies if it fits, else at the end. Full pools are packed where less than
    half of them is used, else they double. `layout` rises where another array takes the place of one of
    these.
    """

    def __init__(self, capacity: int) -> None:
        self.layout = 0
        self.starts, self.lengths = np.zeros(capacity, np.int64), np.zeros(capacity, np.int32)
        self._rooms = np.zeros(capacity, np.int32)
        self._make_pools(MIN_ROOM)

    def __len__(self) -> int:
        """How many items have neighbours."""
        return int(np.count_nonzero(self.lengths))

    def grow(self, capacity: int) -> None:
        """Makes room for the slots below `capacity`."""
        if capacity <= len(self.lengths):
            return
        for name in ("starts", "lengths", "_rooms"):
            column = getattr(self, name)
            room = np.zeros(capacity - len(column), column.dtype)
            setattr(self, name, np.concatenate([column, room]))
        self.layout += 1

    def clear(self) -> None:
        """No item has neighbours."""
        self.lengths[:], self._rooms[:] = 0, 0
        self._make_pools(MIN_ROOM)
        self.layout += 1

    def owners(self) -> Slots:
        """The slots that have neighbours, ascending."""
        return np.flatnonzero(self.lengths).astype(np.int32)

    def get(self, slot: int) -> Neighbours:
        """The neighbours of one slot: views, which hold until lists are put."""
        start = self.starts.item(slot)
        run = slice(start, start + self.lengths.item(slot))
        return Neighbours(self.slots[run], self.scores[run], self.forward[run], self.backward[run])

    def of(self, slots: Slots) -> Runs:
        """Where the lists of n slots lie."""
        lengths = self.lengths[slots]
        which = np.arange(len(slots)).repeat(lengths)
        return Runs(places_of_runs(self.starts[slots], lengths), which)

    def put(self, lists: Lists) -> None:
        """These are the lists of their owners now."""
        owners, lengths, listed = lists
        moved = np.flatnonzero(lengths > self._rooms[owners])
        if len(moved):
            self._move(owners[moved], lengths[moved])
        self.lengths[owners] = lengths
        places = places_of_runs(self.starts[owners], lengths)
        columns: tuple[NDArray[Any], ...] = listed
        for pool, column in zip(self._pools, columns, strict=True):
            pool[places] = column

    @property
    def _pools(self) -> tuple[NDArray[Any], ...]:
        return self.slots, self.scores, self.forward, self.backward

    def _make_pools(self, room: int) -> None:
        self.slots, self.scores = np.zeros(room, np.int32), np.zeros(room, np.float32)
        self.forward, self.backward = np.zeros(room, np.float16), np.zeros(room, np.float16)
        self._end = 0

    def _move(self, owners: Slots, lengths: NDArray[np.int32]) -> None:
        """Gives these lists other places, with room for so many neighbours each; they become empty."""
        self.lengths[owners], self._rooms[owners] = 0, 0
        rooms = -(-lengths // ROOM_STEP) * ROOM_STEP
        need = int(rooms.sum(dtype=np.int64))
        if self._end + need > len(self.slots):
            self._make_room(need)
        stops = self._end + np.cumsum(rooms, dtype=np.int64)
        self.starts[owners], self._rooms[owners] = stops - rooms, rooms
        self._end = int(stops[-1])

    def _make_room(self, need: int) -> None:
        """Gives the pools room for `need` more at the end."""
        before, end = self._pools, self._end
        used, room = int(self._rooms.sum(dtype=np.int64)), len(self.slots)
        if 2 * used > end:
            places: slice | NDArray[np.int64] = slice(end)
            room *= 2
        else:  # most of it is not used any more
            owners = np.flatnonzero(self._rooms)
            rooms, end = self._rooms[owners], used
            places = places_of_runs(self.starts[owners], rooms)
            self.starts[owners] = np.cumsum(rooms, dtype=np.int64) - rooms
        while room < end + need + end // 2:
            room *= 2
        self._make_pools(room)
        for pool, column in zip(self._pools, before, strict=True):
            pool[:end] = column[places]
        self._end = end
        self.layout += 1
