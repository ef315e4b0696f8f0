"""What a person did on two days beyond the list of recent actions: it keeps the daily cap exact.

What leaves the list, or does not enter it, is kept while its day is one of the person's two
(`models.features.days`): 31 bits of its item, and the place of its day. Of an item `DAILY_CAP` are enough.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final

from schemas.state.write import MAX_WHOLE_BYTES

DAILY_CAP: Final = 3
"""Actions of one person on one item in one UTC day that count in sums over people."""
MAX_PER_DAY: Final = 10_000
"""Kept of one day; beyond, no action of that day counts."""
MAX_WHOLE: Final = MAX_WHOLE_BYTES // 4
"""So many are stored as a whole whenever they change."""
OVER_DAILY_CAP: Final = "over_daily_cap"
"""Tallied reason: the fourth and later actions on an item in a day."""
OVER_DAILY_LIMIT: Final = "over_daily_limit"
"""Tallied reason: the day holds `MAX_PER_DAY` of what the list no longer holds."""
ITEM_BITS: Final = 0xFFFF_FFFE
"""A number is these bits of the item's hash, and the place of the day."""


class Overflow:
    """One person's. `place` of a day: its index in `days`; a number: an item in one of them (`ITEM_BITS`)."""

    __slots__ = ("_counts", "_held", "_stored", "_whole", "changed", "sizes")

    def __init__(self, data: bytes = b"") -> None:
        self._held = array("I", data)
        self._counts: dict[int, int] | None = None
        self.sizes = [0, 0]
        """How many are kept of each day; of one that has `MAX_PER_DAY` no more are."""
        self._measure(data)
        self.changed = self._whole = False
        self._stored = len(self._held)

    @property
    def counts(self) -> dict[int, int]:
        """How many are kept of a number."""
        if self._counts is None:
            self._counts = dict(Counter(self._held))
        return self._counts

    @property
    def numbers(self) -> tuple[int, int]:
        """Their address and how many there are: they move when they change."""
        return self._held.buffer_info()

    def __bool__(self) -> bool:
        return bool(self._held)

    def count(self, item: int, place: int) -> int:
        return self.counts.get(item & ITEM_BITS | place, 0)

    def is_full(self, place: int) -> bool:
        return self.sizes[place] >= MAX_PER_DAY

    def add(self, numbers: Iterable[int]) -> None:
        """Keeps more, in this order, as far as there is room."""
        counts, sizes = self.counts, self.sizes
        for number in numbers:
            n = counts.get(number, 0)
            if n < DAILY_CAP and sizes[number & 1] < MAX_PER_DAY:
                counts[number] = n + 1
                self._held.append(number)
                sizes[number & 1] += 1
                self.changed = True

    def drop(self, place: int) -> None:
        """Forgets a day."""
        if self.sizes[place]:
            self._held = array("I", [number for number in self._held if number & 1 != place])
            self._counts = None
            self.sizes[place], self.changed, self._whole = 0, True, True

    def extend(self, data: bytes) -> None:
        """Keeps all these numbers, for which the caller knows that there is room."""
        self._held.frombytes(data)
        self._counts, self.changed = None, True
        self._measure(data)

    def _measure(self, data: bytes) -> None:
        odd = sum(byte & 1 for byte in data[::4])
        self.sizes[0] += len(data) // 4 - odd
        self.sizes[1] += odd

    def changes(self) -> tuple[bool, bytes, int]:
        """What to store, once: whether it replaces the stored bytes, else it is appended; the bytes; and how
        many numbers were added."""
        whole = self._whole or len(self._held) <= MAX_WHOLE
        data = self._held[0 if whole else self._stored :].tobytes()
        added = len(self._held) - self._stored
        self._stored, self.changed, self._whole = len(self._held), False, False
        return whole, data, added
