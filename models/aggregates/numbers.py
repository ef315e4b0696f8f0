"""Dense numbers of hashes: rows of the tables."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import I64, U64

MIN_NEW: Final = 1 << 12
NEW_SHARE: Final = 8
"""New hashes are sorted in when they are `MIN_NEW`, and an eighth of all."""


class DenseNumbers:
    """Dense numbers of hashes, in the order of their first appearance: internal to one set of tables.

    New hashes lie in a small index of their own until it has grown, so that one of them does not copy the
    others.
    """

    def __init__(self, hashes: U64 | None = None) -> None:
        self._hashes = np.empty(0, np.uint64) if hashes is None else hashes
        self._count = len(self._hashes)
        self._index, self._new = _Index.of(self._hashes, 0), _Index.of(self._hashes[:0], 0)

    def __len__(self) -> int:
        return self._count

    @property
    def hashes(self) -> U64:
        """(n,) by dense number."""
        return self._hashes[: self._count]

    def find(self, hashes: U64) -> I64:
        """(n,) the number of each hash; -1 where it has none."""
        numbers = self._index.find(hashes)
        if len(self._new.hashes):
            missing = np.flatnonzero(numbers < 0)
            numbers[missing] = self._new.find(hashes[missing])
        return numbers

    def of(self, hashes: U64) -> I64:
        """(n,) the number of each hash; new hashes get the next ones."""
        numbers = self.find(hashes)
        missing = np.flatnonzero(numbers < 0)
        if len(missing):
            self._number(hashes[missing])
            numbers[missing] = self._new.find(hashes[missing])
        return numbers

    def _number(self, hashes: U64) -> None:
        new, first = np.unique(hashes, return_index=True)
        new = new[np.argsort(first)]
        before, self._count = self._count, self._count + len(new)
        if self._count > len(self._hashes):
            grown = np.empty(max(self._count, 2 * before), np.uint64)
            grown[:before] = self._hashes[:before]
            self._hashes = grown
        self._hashes[before : self._count] = new
        sorted_in = len(self._index.hashes)
        if before - sorted_in > max(MIN_NEW, sorted_in // NEW_SHARE):
            self._index = _Index.of(self._hashes[:before], 0)
            sorted_in = before
        self._new = _Index.of(self.hashes[sorted_in:], sorted_in)


class _Index:
    """Distinct hashes, ascending, and the number of each."""

    def __init__(self, hashes: U64, numbers: I64) -> None:
        self.hashes, self._numbers = hashes, numbers

    @classmethod
    def of(cls, hashes: U64, first: int) -> _Index:
        """Of hashes in the order of their numbers, from `first` on."""
        order = np.argsort(hashes)
        return cls(hashes[order], first + order.astype(np.int64))

    def find(self, hashes: U64) -> I64:
        """(n,) the number of each hash; -1 where it has none."""
        if not len(self.hashes):
            return np.full(len(hashes), -1, np.int64)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, self._numbers[at], -1)
