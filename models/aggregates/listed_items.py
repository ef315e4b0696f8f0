"""Which partition has listed which item: from then on its facts of the item count, and wait no longer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.aggregates.numbers import DenseNumbers
from models.arrays import I64, U64, Mask
from schemas.state.facts import BACK, UNKNOWN


class ListedItems:
    """A bit an item and partition. `items`: the dense numbers of items that a partition has listed."""

    def __init__(self, items: DenseNumbers, partitions: int) -> None:
        self._items, self._partitions = items, partitions
        self._listed: Mask = np.zeros((0, partitions), np.bool_)

    def of(self, partition: int, numbers: I64) -> Mask:
        """(n,) whether the partition has listed the items of these dense numbers (-1: no item)."""
        self._fit()
        found: Mask = (
            (numbers >= 0) & self._listed[numbers, partition] if len(self._items) else numbers > 0
        )
        return found

    def all(self) -> Mask:
        """(items, partitions) which partition has listed which item."""
        self._fit()
        return self._listed[: len(self._items)]

    def load(self, listings: Mask) -> None:
        """Continues with what `all` gave."""
        self._listed = listings

    def mark(self, partition: int, numbers: I64) -> None:
        """The partition lists the items of these dense numbers."""
        self._fit()
        self._listed[numbers, partition] = True

    def mark_named(
        self, partition: int, ids: U64, which: I64, flags: NDArray[np.uint8]
    ) -> tuple[I64, I64, Mask]:
        """Lists the items that facts name as listed: of each id its dense number (-1: none), the fact from
        which on it is listed (-1: before), and whether it is newly so."""
        numbers = self._items.find(ids)
        since = np.where(self.of(partition, numbers), -1, len(flags))
        naming = np.flatnonzero(flags & (BACK | UNKNOWN) == 0)
        np.minimum.at(since, which[naming], naming)
        fresh = (since >= 0) & (since < len(flags))
        if fresh.any():
            numbers[fresh] = self._items.of(ids[fresh])
            self.mark(partition, numbers[fresh])
        return numbers, since, fresh

    def _fit(self) -> None:
        missing = len(self._items) - len(self._listed)
        if missing > 0:
            room = np.zeros((max(missing, len(self._listed)), self._partitions), np.bool_)
            self._listed = np.concatenate([self._listed, room])
