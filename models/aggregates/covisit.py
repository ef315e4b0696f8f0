"""Co-visitation: items that are acted on together, as decayed sums over pairs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.decay import Landmark
from models.arrays import F64, I64, U64
from schemas.state.tables import NEIGHBOUR

PAIR_HALF_LIFE: Final = 1825 * 86_400.0
"""Seconds. Years, not weeks: on MovieLens 30 days cost a third of HR@10, in a shop 5 years cost nothing."""
NEIGHBOURS_PER_ITEM: Final = 50
_LOW: Final = np.uint64(0xFFFF_FFFF)
_SHIFT: Final = np.uint64(32)
_NEXT: Final = np.uint64(1)
_ONE: Final = np.float32(1).view(np.uint32)


def nearness(lag: NDArray[np.uint8]) -> F64:
    """(m,) weight of each pair, 1 / sqrt(lag): the nearer the visit (lag 1: just before), the heavier."""
    weight: F64 = 1 / np.sqrt(lag, dtype=np.float64)
    return weight


class Pairs:
    """Sums over ordered pairs of dense item numbers: sorted keys ``i << 32 | j``, 16 bytes a pair.

    New pairs go to a small second level that is merged when it has grown, so that a round does not
    copy the whole table.
    """

    def __init__(self) -> None:
        self.keys: U64 = np.empty(0, np.uint64)
        self.sums: F64 = np.empty(0)
        self.landmark = Landmark(PAIR_HALF_LIFE)
        self._new_keys: U64 = np.empty(0, np.uint64)
        self._new_sums: F64 = np.empty(0)

    def __len__(self) -> int:
        return len(self.keys) + len(self._new_keys)

    def add(self, i: I64, j: I64, weight: F64, time: F64) -> I64:
        """Adds each pair both ways. The items whose sums changed, ascending. `time` in s."""
        if not len(i):
            return np.empty(0, np.int64)
        factor = self.landmark.move(float(time.max()))
        if factor != 1.0:
            self.sums *= factor
            self._new_sums *= factor
        term = self.landmark.terms(weight, time)
        a, b = i.astype(np.uint64), j.astype(np.uint64)
        keys = np.concatenate([a << _SHIFT | b, b << _SHIFT | a])
        keys, which = np.unique(keys, return_inverse=True)
        terms = np.bincount(which, np.concatenate([term, term])).astype(np.float64)
        rest = _add(self.keys, self.sums, keys, terms)
        keys, terms = keys[rest], terms[rest]
        rest = _add(self._new_keys, self._new_sums, keys, terms)
        at = np.searchsorted(self._new_keys, keys[rest])
        self._new_keys = np.insert(self._new_keys, at, keys[rest])
        self._new_sums = np.insert(self._new_sums, at, terms[rest])
        if len(self._new_keys) > max(1 << 16, len(self.keys) >> 3):
            self.settle()
        return np.unique(np.concatenate([i, j]))

    def settle(self) -> None:
        """Merges the second level into the first."""
        at = np.searchsorted(self.keys, self._new_keys)
        self.keys = np.insert(self.keys, at, self._new_keys)
        self.sums = np.insert(self.sums, at, self._new_sums)
        self._new_keys, self._new_sums = self._new_keys[:0], self._new_sums[:0]

    def neighbours(self, items: I64, hashes: U64) -> list[bytes]:
        """The best `NEIGHBOURS_PER_ITEM` partners of each item (dense numbers) as `NEIGHBOUR` rows:
        score = share of their sums, an estimate of p(partner | item) in which decay and event rate cancel.

        Ordered by (score as f4, descending; item hash): rounding comes first, so the order does not depend
        on the order of summing.
        """
        place, partner, sums = self.of(items)
        most = np.zeros(len(items))
        np.maximum.at(most, place, sums)
        positive = most[place] > 0
        place, partner, sums = place[positive], partner[positive], sums[positive]
        relative = (sums / most[place]).astype(np.float32)
        # bits of floats in 0 to 1 sort as the floats do: with the place above them they are one sort key
        low = (_ONE - relative.view(np.uint32)).astype(np.uint64)
        order = np.lexsort((hashes[partner], place.astype(np.uint64) << _SHIFT | low))
        count = np.bincount(place, minlength=len(items))
        rank = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
        order, count = order[rank < NEIGHBOURS_PER_ITEM], np.minimum(count, NEIGHBOURS_PER_ITEM)
        rows = np.empty(len(order), NEIGHBOUR)
        rows["item"], rows["score"] = hashes[partner[order]], _shares(sums[order], count)
        data, end_offsets = rows.tobytes(), NEIGHBOUR.itemsize * np.cumsum(count)
        starts = end_offsets - NEIGHBOUR.itemsize * count
        return [data[i:j] for i, j in zip(starts.tolist(), end_offsets.tolist(), strict=True)]

    def of(self, items: I64) -> tuple[I64, I64, F64]:
        """The pairs of `items`: index of the item in `items`, partner, sum."""
        found = []
        for keys, sums in ((self.keys, self.sums), (self._new_keys, self._new_sums)):
            first = items.astype(np.uint64)
            start = np.searchsorted(keys, first << _SHIFT)
            count = np.searchsorted(keys, first + _NEXT << _SHIFT) - start
            at = np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())
            found.append((np.repeat(np.arange(len(items)), count), keys[at] & _LOW, sums[at]))
        place, partner, its = (np.concatenate([level[i] for level in found]) for i in range(3))
        return place, partner.astype(np.int64), its


def _shares(sums: F64, count: I64) -> F64:
    """The share of each in the sum of its list; lists of `count` follow one another. Lists of one length are
    summed together, each in the order of a list by itself."""
    shares, starts = np.empty(len(sums)), np.cumsum(count) - count
    for length in np.unique(count[count > 0]).tolist():
        at = starts[count == length][:, None] + np.arange(length)
        shares[at] = sums[at] / sums[at].sum(1, keepdims=True)
    return shares


def _add(keys: U64, sums: F64, new: U64, terms: F64) -> NDArray[np.bool_]:
    """Adds the terms whose key exists, in place. (n,) the terms whose key is missing."""
    if not len(keys):
        return np.ones(len(new), np.bool_)
    at = np.minimum(np.searchsorted(keys, new), len(keys) - 1)
    there = keys[at] == new
    sums[at[there]] += terms[there]
    missing: NDArray[np.bool_] = ~there
    return missing
