"""What a person did on two days beyond the list of recent actions: it keeps the daily cap exact.

What leaves the list, or does not enter it, is kept while its day is one of the person's two
(`models.features.days`): 31 bits of its item, and the place of its day. Of an item `DAILY_CAP` are enough.
"""

from __future__ import annotations

from struct import pack
from typing import Final

import numpy as np

DAILY_CAP: Final = 3
"""Actions of one person on one item in one UTC day that count in sums over people."""
MAX_PER_DAY: Final = 10_000
"""Kept of one day; beyond, no action of that day counts."""
OVER_DAILY_CAP: Final = "over_daily_cap"
"""Tallied reason: the fourth and later actions on an item in a day."""
OVER_DAILY_LIMIT: Final = "over_daily_limit"
"""Tallied reason: the day holds `MAX_PER_DAY` of what the list no longer holds."""
_ITEM_BITS: Final = 0xFFFF_FFFE


class Overflow:
    """One person's. `place` of a day: its index in `days`."""

    __slots__ = ("_counts", "_held", "_sizes", "_stored", "_whole")

    def __init__(self, data: bytes = b"") -> None:
        self._counts: dict[int, int] = {}
        self._held: list[int] = list(np.frombuffer(data, "<u4").tolist())
        for number in self._held:
            self._counts[number] = self._counts.get(number, 0) + 1
        places = sum(number & 1 for number in self._held)
        self._sizes = [len(self._held) - places, places]
        self._stored, self._whole = len(self._held), False

    def __bool__(self) -> bool:
        return bool(self._held)

    def count(self, item: int, place: int) -> int:
        return self._counts.get(item & _ITEM_BITS | place, 0)

    def room(self, place: int) -> int:
        """How many more are kept of that day."""
        return int(MAX_PER_DAY - self._sizes[place])

    def add(self, item: int, place: int) -> None:
        number = item & _ITEM_BITS | place
        n = self._counts.get(number, 0)
        if n < DAILY_CAP and self._sizes[place] < MAX_PER_DAY:
            self._counts[number] = n + 1
            self._held.append(number)
            self._sizes[place] += 1

    def drop(self, place: int) -> None:
        """Forgets a day."""
        if self._sizes[place]:
            self._held = [number for number in self._held if number & 1 != place]
            self._counts = {it: n for it, n in self._counts.items() if it & 1 != place}
            self._sizes[place], self._whole = 0, True

    @property
    def changed(self) -> bool:
        return self._whole or len(self._held) > self._stored

    def changes(self) -> tuple[bool, bytes]:
        """What to store, once: whether it replaces the stored bytes, else it is appended."""
        whole = self._whole
        new = self._held[0 if whole else self._stored :]
        data = pack(f"<{len(new)}I", *new)
        self._stored, self._whole = len(self._held), False
        return whole, data
