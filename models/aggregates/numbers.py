"""Dense numbers of hashes: rows of the tables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class DenseNumbers:
    """Dense numbers of hashes, in the order of their first appearance: internal to one set of tables."""

    def __init__(self, hashes: NDArray[np.uint64] | None = None) -> None:
        self.hashes = np.empty(0, np.uint64) if hashes is None else hashes
        order = np.argsort(self.hashes)
        self._sorted, self._numbers = self.hashes[order], order.astype(np.int64)

    def __len__(self) -> int:
        return len(self.hashes)

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the number of each hash; -1 where it has none."""
        if not len(self):
            return np.full(len(hashes), -1, np.int64)
        at = self._places(hashes)
        return np.where(self._sorted[at] == hashes, self._numbers[at], -1)

    def of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the number of each hash; new hashes get the next ones."""
        numbers = self.find(hashes)
        new = numbers < 0
        if new.any():
            self._number(hashes[new])
            numbers = self._numbers[self._places(hashes)]
        return numbers

    def _places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the index at which each hash is among the sorted ones, if it is one of them."""
        return np.minimum(np.searchsorted(self._sorted, hashes), max(0, len(self) - 1))

    def _number(self, hashes: NDArray[np.uint64]) -> None:
        new, first = np.unique(hashes, return_index=True)
        numbers = np.empty(len(new), np.int64)
        seen = np.argsort(first)
        numbers[seen] = np.arange(len(self), len(self) + len(new))
        at = np.searchsorted(self._sorted, new)
        self._sorted = np.insert(self._sorted, at, new)
        self._numbers = np.insert(self._numbers, at, numbers)
        self.hashes = np.concatenate([self.hashes, new[seen]])
