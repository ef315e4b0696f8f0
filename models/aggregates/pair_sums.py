"""A table of sums over directed pairs of items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64, U64, Mask
from schemas.state.counting import LAG_POWERS

MIN_NEW_ROWS: Final = 1 << 16
"""The second level of a table is merged when it has more rows, and more than an eighth of the first."""
_LOW: Final = np.uint64(0xFFFF_FFFF)
_SHIFT: Final = np.uint64(32)
_NEXT: Final = np.uint64(1)


class Rows(NamedTuple):
    """Sorted keys (n,) and sums (lag powers, n)."""

    keys: U64
    sums: F64


NO_ROWS: Final = Rows(np.empty(0, np.uint64), np.empty((len(LAG_POWERS), 0)))


class PairsOf(NamedTuple):
    """Pairs of some items: the key ``index of the item << 32 | partner``, ascending, and the sums of (item,
    partner) and of (partner, item)."""

    keys: U64
    forward: F64
    backward: F64

    def where(self, mask: Mask) -> PairsOf:
        return PairsOf(self.keys[mask], self.forward[mask], self.backward[mask])


class PairSums:
    """Sums over pairs (a, b) of dense item numbers, a before b: sorted keys ``a << 32 | b`` and a sum for
    each of `LAG_POWERS`, 24 bytes a row. (b, a) has a row wherever (a, b) has one, in the same level, so that
    the pairs of an item are found in both orders.

    New pairs go to a small second level that is merged when it has grown, so that a round does not copy the
    whole table.
    """

    def __init__(self, rows: Rows = NO_ROWS) -> None:
        self._levels = [rows, NO_ROWS]

    def __len__(self) -> int:
        return sum(len(level.keys) for level in self._levels)

    def __iter__(self) -> Iterator[Rows]:
        return iter(self._levels)

    def scale(self, factor: float) -> None:
        """Multiplies all sums."""
        for level in self._levels:
            level.sums[:] *= factor

    def add(self, first: I64, second: I64, terms: F64) -> None:
        """Adds `terms` (lag powers, m) to the pairs (first, second), each (m,), of two different items."""
        keys = first.astype(np.uint64) << _SHIFT | second.astype(np.uint64)
        keys, which = np.unique(keys, return_inverse=True)
        added: F64 = np.array([np.bincount(which, term, len(keys)) for term in terms], np.float64)
        for level in self._levels:
            missing = _add(level, keys, added)
            keys, added = keys[missing], added[:, missing]
        if len(keys):
            both = np.union1d(keys, reversed_keys(keys))
            sums = np.zeros((len(terms), len(both)))
            sums[:, np.searchsorted(both, keys)] = added
            self._levels[1] = _merged(self._levels[1], Rows(both, sums))
        old, new = self._levels
        if len(new.keys) > max(MIN_NEW_ROWS, len(old.keys) >> 3):
            self.settle()

    def settle(self) -> Rows:
        """Merges the second level into the first, which then has all rows."""
        self._levels = [_merged(*self._levels), NO_ROWS]
        return self._levels[0]

    def of(self, items: I64, power: int) -> Iterator[PairsOf]:
        """The pairs of `items`, by level, with the sums under ``LAG_POWERS[power]``."""
        first = items.astype(np.uint64)
        for keys, sums in self._levels:
            start = np.searchsorted(keys, first << _SHIFT)
            count = np.searchsorted(keys, first + _NEXT << _SHIFT) - start
            at = np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())
            place = np.repeat(np.arange(len(items), dtype=np.uint64), count)
            found = keys[at]
            back = np.searchsorted(keys, reversed_keys(found))
            yield PairsOf(place << _SHIFT | found & _LOW, sums[power, at], sums[power, back])


def reversed_keys(keys: U64) -> U64:
    """Of (a, b) the key of (b, a).

    >>> reversed_keys(np.array([7 << 32 | 5], np.uint64)) == 5 << 32 | 7
    array([ True])
    """
    turned: U64 = keys << _SHIFT | keys >> _SHIFT
    return turned


def parts(keys: U64) -> tuple[I64, I64]:
    """The upper and the lower half of each key."""
    return (keys >> _SHIFT).astype(np.int64), (keys & _LOW).astype(np.int64)


def _merged(old: Rows, new: Rows) -> Rows:
    """The rows of both, whose keys differ."""
    if not len(old.keys) or not len(new.keys):
        return new if len(new.keys) else old
    at = np.searchsorted(old.keys, new.keys)
    return Rows(np.insert(old.keys, at, new.keys), np.insert(old.sums, at, new.sums, axis=1))


def _add(level: Rows, keys: U64, terms: F64) -> Mask:
    """Adds the terms whose key has a row, in place. (m,) the terms whose key has none."""
    if not len(level.keys):
        return np.ones(len(keys), np.bool_)
    at = np.minimum(np.searchsorted(level.keys, keys), len(level.keys) - 1)
    there = level.keys[at] == keys
    level.sums[:, at[there]] += terms[:, there]
    missing: Mask = ~there
    return missing
