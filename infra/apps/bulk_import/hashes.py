"""A multiset of 64-bit hashes, 8 bytes each: how often has each of many come before?"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
MERGE_RATIO: Final = 3
"""A run that is not this many times as long as the next one is merged with it: some log3(n) runs."""


class HashBag:
    """Sorted runs, each longer than the next (O'Neil et al. 1996, the log-structured merge tree). `size`: how
    many hashes it holds.

    >>> bag = HashBag(np.array([7, 9, 7], np.uint64))
    >>> bag.counts(np.array([7, 8], np.uint64)).tolist()
    [2, 0]
    """

    def __init__(self, hashes: Hashes | None = None) -> None:
        self.size = 0
        self._runs: list[Hashes] = []
        if hashes is not None:
            self.add(hashes)

    def add(self, hashes: Hashes) -> None:
        """Adds (n,) hashes, in any order."""
        if not hashes.size:
            return
        self.size += hashes.size
        run = np.sort(hashes)
        while self._runs and self._runs[-1].size < MERGE_RATIO * run.size:
            run = np.sort(np.concatenate((self._runs.pop(), run)), kind="stable")
        self._runs.append(run)

    def counts(self, hashes: Hashes) -> NDArray[np.int64]:
        """(n,): how often each of the (n,) `hashes` was added; fastest where they are sorted."""
        counts = np.zeros(hashes.size, np.int64)
        for run in self._runs:
            counts += np.searchsorted(run, hashes, "right") - np.searchsorted(run, hashes)
        return counts

    def all(self) -> Hashes:
        """Every hash, as often as it was added, in no order."""
        return np.concatenate(self._runs) if self._runs else np.empty(0, np.uint64)


def occurrences(hashes: Hashes, earlier: HashBag) -> NDArray[np.int64]:
    """(n,): each hash's number among its equals, from 1; those that `earlier` holds come first.

    >>> occurrences(np.array([5, 6, 5], np.uint64), HashBag(np.array([6], np.uint64))).tolist()
    [1, 2, 2]
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    positions = np.arange(ordered.size)
    begins = np.ones(ordered.size, bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    rank = positions - np.maximum.accumulate(np.where(begins, positions, 0))
    numbers = np.empty(ordered.size, np.int64)
    numbers[order] = rank + 1 + earlier.counts(ordered)
    return numbers
