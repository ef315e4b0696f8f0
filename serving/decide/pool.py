"""The candidates of one decision, and which source brought each."""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.state.counting import only
from schemas.state.tables import WINDOWS
from serving.world.catalogue import Floats, Slots

Places = NDArray[np.intp]
POPULARITY: Final = ("popular", *(f"popular_{window}" for window in WINDOWS))
"""The sources that order all items by popularity; every pool has one of them."""
VARIANT_MIX: Final = only("90d")
"""Popularity by which a variant is the most wanted, under any counting: it should not change by the hour."""
MAX_SCORED: Final = 1000
"""At most so many candidates are scored."""
LARGE_CATEGORY: Final = 8
"""A category that holds more than the catalogue's share of one in so many is found along the order of all."""
UNLIMITED_DAYS: Final = 1e6
"""How far back the source `fresh` looks where the recipe has no `fresh_days`."""


class Retrieved(NamedTuple):
    """m items from one source. `values` (m,): 0 where the source has none. `entries` (m,): the entry of
    `case.interest` that brought each. An item may come several times: its values add up, in order."""

    slots: Slots
    values: Floats
    entries: Places


class Pool:
    """n candidates, each once. `retrieved[source]` is what the source brought, and `numbers[source]` (m,)
    the candidate that each of its items became. `chosen` (n,), where items have groups: the candidate that is
    shown in place of each, often itself; what a source brought became that one."""

    def __init__(
        self,
        slots: Slots,
        retrieved: dict[str, Retrieved],
        numbers: dict[str, Places],
        chosen: Places | None = None,
    ) -> None:
        self.slots, self.retrieved, self.numbers, self.chosen = slots, retrieved, numbers, chosen
        self._sums: dict[str, Floats] = {}
        self._brought: dict[str, Places] = numbers
        """`numbers`, before any candidate took the place of another."""

    def merged(self, chosen: Places) -> Pool:
        """The pool in which `chosen` (n,) takes the place of each candidate."""
        numbers = {source: chosen[brought] for source, brought in self.numbers.items()}
        pool = Pool(self.slots, self.retrieved, numbers, chosen)
        pool._brought = self.numbers
        return pool

    def add_up(self, values: Floats) -> Floats:
        """(n,) `values` (n,), with those of the candidates in whose place each is shown added to its own."""
        if self.chosen is None:
            return values
        sums = np.bincount(self.chosen, values, len(self.slots))
        return sums.astype(np.float64, copy=False)

    def is_substitute(self, candidate: int) -> bool:
        """Whether no source brought the candidate: it is shown in place of one that was brought."""
        return not any((numbers == candidate).any() for numbers in self._brought.values())

    def sums(self, source: str) -> Floats:
        """(n,) the sum of the values that a source brought for each candidate."""
        if source not in self._sums:
            sums = np.bincount(self.numbers[source], self.retrieved[source].values, len(self.slots))
            self._sums[source] = sums.astype(np.float64, copy=False)
        return self._sums[source]

    def order(self, source: str) -> Places:
        """The candidates that a source brought, highest sum first, then in the source's order."""
        numbers = self.numbers[source]
        first = np.full(len(self.slots), -1)
        first[numbers[::-1]] = np.arange(len(numbers))[::-1]
        brought = np.flatnonzero(first >= 0)
        return brought[np.lexsort((first[brought], -self.sums(source)[brought]))]

    def provenance(self, candidates: list[int]) -> list[tuple[str, ...]]:
        """The sources that brought each of `candidates`."""
        names = list(self.numbers)
        return [
            tuple(name for bit, name in enumerate(names) if bits >> bit & 1)
            for bits in self._bits[candidates].tolist()
        ]

    @property
    def counts(self) -> dict[str, int]:
        """How many candidates each source brought."""
        counts = [(bits, n) for bits, n in enumerate(np.bincount(self._bits).tolist()) if n]
        return {
            name: sum(n for bits, n in counts if bits >> bit & 1)
            for bit, name in enumerate(self.numbers)
        }

    @cached_property
    def _bits(self) -> NDArray[np.uint16]:
        bits = np.zeros(len(self.slots), np.uint16)
        for bit, numbers in enumerate(self.numbers.values()):
            bits[numbers] |= 1 << bit
        return bits


class Kept(NamedTuple):
    """(k,) candidates of a pool: their numbers in it, and their slots."""

    numbers: Places
    slots: Slots
