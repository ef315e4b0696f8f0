"""The memory that a compiled decision works in: Python allocates it, and C carves its arrays out of it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel

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
        self.d.ask = self.ask
        self.held: list[Any] = []
        """What C points to while a request lasts, beside what is prepared."""
        self.prepared: dict[Any, Any] = {}
        """What is prepared, by what it depends on, the one asked for last at the end; the one in force is
        `current`."""
        self.current: Any = None
        self.provenance: dict[tuple[str, ...], dict[int, tuple[str, ...]]] = {}
        """Sources -> bits of those that brought a candidate -> their names."""
        self._entries = self._places = self._slots = 0
        self.make_room(ENTRIES, PLACES)

    def make_slots(self, capacity: int) -> None:
        """Room for what is noted of so many slots."""
        if capacity <= self._slots:
            return
        self._by_slot = np.zeros(capacity * self._lib.STAMP_BYTES + ALIGNMENT, np.uint8)
        self._lib.decision_slots(self.d, self._aligned(self._by_slot), capacity)
        self._slots = capacity

    def make_room(self, entries: int, places: int) -> None:
        """Room for what the sources bring, and for the candidates that are scored."""
        self._entries, self._places = max(entries, self._entries), max(places, self._places)
        size = self._lib.decision_bytes(self._entries, self._places)
        # what is never written takes no memory
        self._block = np.empty(size + ALIGNMENT, np.uint8)
        self._lib.decision_room(self.d, self._aligned(self._block), self._entries, self._places)
        d, n, buffer, lib = self.d, self._places, self._ffi.buffer, self._lib
        self.items = buffer(d.out_items, 4 * lib.SHOWN_NUMBERS * n)
        self.scores = buffer(d.out_score, 4 * n)
        self.rows = buffer(d.out_rows, 4 * lib.MAX_COLUMNS * n)

    def make_room_for(self, places: int) -> None:
        """Room for so many candidates that are scored."""
        if places > self._places:
            self.make_room(0, places)

    def _aligned(self, block: NDArray[np.uint8]) -> Any:
        pointer = self._ffi.from_buffer("uint8_t[]", block)
        return pointer + -int(self._ffi.cast("uintptr_t", pointer)) % ALIGNMENT


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
