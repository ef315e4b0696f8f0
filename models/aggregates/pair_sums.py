"""A table of sums over directed pairs of items."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import F64, I64, U64
from schemas.state.counting import LAG_POWERS

MIN_NEW_ROWS: Final = 1 << 10
"""A level of fewer rows is merged with the next new ones."""
LEVEL_RATIO: Final = 8
"""A level has at least so many times the rows of the next: so a row is copied a few times for each level."""
MAX_PENDING_PAIRS: Final = 1 << 16
"""Pairs wait, to be added together: a level is copied once for so many, or for a reader."""
_LOW: Final = np.uint64(0xFFFF_FFFF)
_SHIFT: Final = np.uint64(32)


class Rows(NamedTuple):
    """Sorted keys (n,) and sums (lag powers, n)."""

    keys: U64
    sums: F64


class PairsOf(NamedTuple):
    """Pairs of some items: the key ``index of the item << 32 | partner`` and the sum of each, `backward` or
    not."""

    keys: U64
    sums: F64
    backward: bool


class Level(NamedTuple):
    """Rows, and where they are by their second item: `order` (n,) has the rows by (second, first), those of
    ``seconds[i]`` (k,), which ascend, from ``starts[i]`` to ``starts[i + 1]``."""

    rows: Rows
    order: NDArray[np.uint32]
    seconds: NDArray[np.uint32]
    starts: I64

    @classmethod
    def of(cls, rows: Rows) -> Level:
        order = np.argsort(reversed_keys(rows.keys)).astype(np.uint32)
        seconds = rows.keys[order].astype(np.uint32)  # the lower half of each key
        new = np.ones(len(seconds), np.bool_)
        new[1:] = seconds[1:] != seconds[:-1]
        starts = np.flatnonzero(new)
        rows = Rows(rows.keys, np.ascontiguousarray(rows.sums))
        return cls(rows, order, seconds[starts], np.append(starts, len(seconds)))

    def pairs(self, items: I64, power: int) -> Iterator[PairsOf]:
        """The pairs of which one of `items` is the first, and those of which it is the second."""
        keys, sums = self.rows
        place = np.arange(len(items), dtype=np.uint64)
        first = items.astype(np.uint64)
        start = np.searchsorted(keys, first << _SHIFT)
        count = np.searchsorted(keys, first + np.uint64(1) << _SHIFT) - start
        at = ranges(start, count)
        yield PairsOf(np.repeat(place, count) << _SHIFT | keys[at] & _LOW, sums[power, at], False)
        second = items.astype(np.uint32)  # of one kind with `seconds`, or these are copied
        where = np.minimum(np.searchsorted(self.seconds, second), len(self.seconds) - 1)
        start = self.starts[where]
        count = np.where(self.seconds[where] == second, self.starts[where + 1] - start, 0)
        at = self.order[ranges(start, count)].astype(np.int64)
        yield PairsOf(np.repeat(place, count) << _SHIFT | keys[at] >> _SHIFT, sums[power, at], True)


NO_ROWS: Final = Rows(np.empty(0, np.uint64), np.empty((len(LAG_POWERS), 0)))


class PairSums:
    """Sums over pairs (a, b) of dense item numbers, a before b: sorted keys ``a << 32 | b``, a sum for each
    of `LAG_POWERS`, and where the row is by (b, a): some 30 bytes a pair.

    New pairs go to a small level that is merged into the one before when it has grown (O'Neil et al., "The
    log-structured merge-tree", 1996), so that a round does not copy the whole table. A pair is in one level.
    The terms of a pair are added to its sums in their order, so the sums are the same however the calls of
    `add` are cut.
    """

    def __init__(self, rows: Rows = NO_ROWS) -> None:
        self._levels = [Level.of(rows)] if len(rows.keys) else []
        self._pending: list[tuple[U64, F64]] = []
        self._waiting = 0

    def __len__(self) -> int:
        return sum(len(level.rows.keys) for level in self._settled())

    def scale(self, factor: float) -> None:
        """Multiplies all sums."""
        for level in self._settled():
            level.rows.sums[:] *= factor

    def add(self, first: I64, second: I64, terms: F64) -> None:
        """Adds `terms` (lag powers, m) to the pairs (first, second), each (m,), of two different items."""
        self._pending.append((first.astype(np.uint64) << _SHIFT | second.astype(np.uint64), terms))
        self._waiting += len(first)
        if self._waiting > MAX_PENDING_PAIRS:
            self._settled()

    def settle(self) -> Rows:
        """All rows, in one table."""
        rows = NO_ROWS
        for level in self._settled():
            rows = _merged(rows, level.rows)
        return rows

    def of(self, items: I64, power: int) -> Iterator[PairsOf]:
        """The pairs of `items`, with the sums under ``LAG_POWERS[power]``; a pair may come several times."""
        for level in self._settled():
            yield from level.pairs(items, power)

    def levels(self) -> tuple[Level, ...]:
        """Each pair is in one of them."""
        return tuple(self._settled())

    def _settled(self) -> list[Level]:
        """The levels, after the pairs that waited were added."""
        if self._pending:
            keys, terms = (np.concatenate(it, axis=-1) for it in zip(*self._pending, strict=True))
            self._pending, self._waiting = [], 0
            self._add(keys, terms)
        return self._levels

    def _add(self, keys: U64, terms: F64) -> None:
        keys, which = np.unique(keys, return_inverse=True)
        places = [_places(level.rows, keys) for level in self._levels]
        sums, new = np.zeros((len(terms), len(keys))), np.ones(len(keys), np.bool_)
        for level, (named, at) in zip(self._levels, places, strict=True):
            sums[:, named] = level.rows.sums[:, at]
            new[named] = False
        place = np.concatenate([np.arange(len(keys)), which])
        for column, term in zip(sums, terms, strict=True):
            column[:] = np.bincount(place, np.concatenate([column, term]), len(keys))
        for level, (named, at) in zip(self._levels, places, strict=True):
            level.rows.sums[:, at] = sums[:, named]
        if new.any():
            self._append(Rows(keys[new], sums[:, new]))

    def _append(self, rows: Rows) -> None:
        """Appends rows whose keys are in no level."""
        levels = self._levels
        while levels and len(levels[-1].rows.keys) < max(
            MIN_NEW_ROWS, LEVEL_RATIO * len(rows.keys)
        ):
            rows = _merged(levels.pop().rows, rows)
        levels.append(Level.of(rows))


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


def ranges(start: I64, count: I64) -> I64:
    """The numbers from each start on, as many as its count, one after the other."""
    steps: I64 = np.repeat(start - np.cumsum(count) + count, count)
    steps += np.arange(len(steps))
    return steps


def _merged(old: Rows, new: Rows) -> Rows:
    """The rows of both, whose keys differ."""
    if not len(old.keys) or not len(new.keys):
        return new if len(new.keys) else old
    n = len(old.keys) + len(new.keys)
    at = np.searchsorted(old.keys, new.keys) + np.arange(len(new.keys))
    rest = np.ones(n, np.bool_)
    rest[at] = False
    keys, sums = np.empty(n, np.uint64), np.empty((len(old.sums), n))
    keys[at], keys[rest] = new.keys, old.keys
    for column, mine, theirs in zip(sums, old.sums, new.sums, strict=True):
        column[at], column[rest] = theirs, mine
    return Rows(keys, sums)


def _places(rows: Rows, keys: U64) -> tuple[I64, I64]:
    """Which of these keys have a row, and its place."""
    at = np.minimum(np.searchsorted(rows.keys, keys), len(rows.keys) - 1)
    named = np.flatnonzero(rows.keys[at] == keys)
    return named, at[named]
