"""The memory that a compiled decision works in: Python allocates it, and C carves its arrays out of it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel
from serving.decide.case import Ask, World
from serving.decide.plan import row_layout
from serving.decide.prepared import Key, Prepared, key_of

MAX_PREPARED: Final = 64
"""Recipes of placements, windows and releases that are kept prepared; the one not asked for longest is dropped."""
ALIGNMENT: Final = 16
ENTRIES: Final = 4096
"""What the sources of a request bring, at first; where they bring more, room is made."""


PLACES: Final = 1100
"""Candidates that are scored, and those that may fill a slate, at first."""


class Workspace:
    """Of one decision at a time. `d` is the `decision` that C works on."""

    def __init__(self) -> None:
        assert kernel is not None
        self._lib, self._ffi = kernel.lib, kernel.ffi
        self.d = self._ffi.new("decision *")
        self.ask = self._ffi.new("decision_ask *")
        self._layout = row_layout()
        self.d.ask, self.d.layout = self.ask, self._layout
        self.held: list[Any] = []
        """What C points to while a request lasts, beside what is prepared."""
        self._prepared: dict[Key, Prepared] = {}
        self._current: Prepared | None = None
        self._entries = self._places = self._slots = 0
        self.make_room(ENTRIES, PLACES)

    def prepared(self, world: World, ask: Ask, needed: tuple[bool, ...]) -> Prepared:
        """What is prepared for such a request, as of now. `needed`: of `prepared.VARYING`. Errors:
        `plan.TooLarge`."""
        key = key_of(world, ask, needed)
        found = self._prepared.pop(key, None)
        if found is None:
            found = self._prepare(key, world, ask, needed)
        self._prepared[key] = found  # the last one asked for is last
        found.renew(world, ask)
        if found is not self._current:
            d, self._current = self.d, found
            d.plan, d.items, d.tables, d.space = (
                found.plan.struct, found.items, found.tables, found.space
            )  # fmt: skip
        capacity = len(world.items.hash)
        if capacity > self._slots:
            self._make_slots(capacity)
        return found

    def make_room(self, entries: int, places: int) -> None:
        """Room for what the sources bring, and for the candidates that are scored."""
        self._entries, self._places = max(entries, self._entries), max(places, self._places)
        size = self._lib.decision_bytes(self._entries, self._places)
        # what is never written takes no memory
        self._block = np.empty(size + ALIGNMENT, np.uint8)
        self._lib.decision_room(self.d, self._aligned(self._block), self._entries, self._places)
        d = self.d
        self.items, self.counts = d.out_items, d.out_counts
        self.scores, self.rows, self.values = d.out_score, d.out_rows, d.out_values

    def make_room_for(self, places: int) -> None:
        """Room for so many candidates that are scored."""
        if places > self._places:
            self.make_room(0, places)

    def _make_slots(self, capacity: int) -> None:
        self._stamps = np.zeros(capacity * self._lib.STAMP_BYTES + ALIGNMENT, np.uint8)
        self._lib.decision_slots(self.d, self._aligned(self._stamps), capacity)
        self._slots = capacity

    def _aligned(self, block: NDArray[np.uint8]) -> Any:
        pointer = self._ffi.from_buffer("uint8_t[]", block)
        return pointer + -int(self._ffi.cast("uintptr_t", pointer)) % ALIGNMENT

    def _prepare(self, key: Key, world: World, ask: Ask, needed: tuple[bool, ...]) -> Prepared:
        held = self._prepared
        if len(held) >= MAX_PREPARED:
            del held[next(iter(held))]
        return Prepared(world, ask, needed, lambda: held.pop(key, None))


_FREE: Final[list[Workspace]] = []


def take() -> Workspace:
    """A workspace that no other decision works in."""
    try:
        return _FREE.pop()
    except IndexError:
        return Workspace()


def give_back(workspace: Workspace) -> None:
    """It is free again."""
    workspace.held.clear()
    _FREE.append(workspace)
