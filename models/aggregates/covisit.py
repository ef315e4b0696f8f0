"""Co-visitation: items that are acted on one after the other, as decayed sums over directed pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.decay import Landmark
from models.aggregates.pair_sums import PairsOf, PairSums, Rows, parts
from models.arrays import F64, I64, U64, Mask
from schemas.state.counting import LAG_POWERS
from schemas.state.tables import NEIGHBOUR, PairCounting

PAIR_HALF_LIFE: Final = 1825 * 86_400.0
"""Seconds. Years, not weeks: on MovieLens 30 days cost a third of HR@10, in a shop 5 years cost nothing."""
NEIGHBOURS_PER_ITEM: Final = 50
_SHIFT: Final = np.uint64(32)
_ONE: Final = np.float32(1).view(np.uint32)
LARGEST_SHARE: Final = float(np.finfo(np.float16).max)
"""A larger one, of what hardly counts in the score, is published as this."""
_LAGS: Final = np.arange(1, 256)
_WEIGHTS: Final = np.array([[0.0, *_LAGS**-power] for power in LAG_POWERS])
"""(lag powers, lags): `nearness` by lag."""


def nearness(lag: NDArray[np.uint8], power: float = 0.5) -> F64:
    """(m,) weight of each pair, 1 / lag^power: the nearer the visit (lag 1: just before), the heavier."""
    weight: F64 = lag.astype(np.float64) ** -power
    return weight


class Pairs:
    """`session`: of pairs within one session; `beyond`: of all others. Any gap is the sum of both."""

    def __init__(self) -> None:
        self.session, self.beyond = PairSums(), PairSums()
        self.landmark = Landmark(PAIR_HALF_LIFE)

    def __len__(self) -> int:
        return len(self.session) + len(self.beyond)

    def add(self, first: I64, second: I64, lag: NDArray[np.uint8], within: Mask, time: F64) -> I64:
        """Adds pairs of dense numbers (m,) of different items: the person acted on `first`, then on `second`,
        at `time` (s), `within` one session or not. The items whose sums changed, ascending."""
        if not len(first):
            return np.empty(0, np.int64)
        factor = self.landmark.move(float(time.max()))
        if factor != 1.0:
            self.session.scale(factor)
            self.beyond.scale(factor)
        terms = self.landmark.terms(_WEIGHTS[:, lag], time)
        for table, its in ((self.session, within), (self.beyond, ~within)):
            if its.all():
                table.add(first, second, terms)
            elif its.any():
                table.add(first[its], second[its], terms[:, its])
        return np.unique(np.concatenate([first, second]))

    def neighbours(self, items: I64, hashes: U64, counting: PairCounting) -> list[bytes]:
        """The best `NEIGHBOURS_PER_ITEM` partners of each item (dense numbers) as `NEIGHBOUR` rows.

        ``score = forward + counting.backward * backward``, where forward is the sum of (item, partner) and
        backward that of (partner, item). All three are shares of the list's total score, in which decay and
        event rate cancel. Ordered by (score as f4, descending; item hash): rounding comes first, so the order
        does not depend on the order of summing.
        """
        found = self.of(items, counting)
        sums = found.forward + counting.backward * found.backward
        place, partner = parts(found.keys)
        most = np.zeros(len(items))
        np.maximum.at(most, place, sums)
        positive = sums > 0
        if not positive.all():
            found = found.where(positive)
            place, partner, sums = place[positive], partner[positive], sums[positive]
        relative = (sums / most[place]).astype(np.float32)
        # bits of floats in 0 to 1 sort as the floats do: with the place above them they are one sort key
        low = (_ONE - relative.view(np.uint32)).astype(np.uint64)
        order = np.lexsort((hashes[partner], place.astype(np.uint64) << _SHIFT | low))
        count = np.bincount(place, minlength=len(items))
        rank = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
        order, count = order[rank < NEIGHBOURS_PER_ITEM], np.minimum(count, NEIGHBOURS_PER_ITEM)
        total = _totals(sums[order], count)
        rows = np.empty(len(order), NEIGHBOUR)
        rows["item"], rows["score"] = hashes[partner[order]], sums[order] / total
        rows["forward"] = np.minimum(found.forward[order] / total, LARGEST_SHARE)
        rows["backward"] = np.minimum(found.backward[order] / total, LARGEST_SHARE)
        data, end_offsets = rows.tobytes(), NEIGHBOUR.itemsize * np.cumsum(count)
        starts = end_offsets - NEIGHBOUR.itemsize * count
        return [data[i:j] for i, j in zip(starts.tolist(), end_offsets.tolist(), strict=True)]

    def of(self, items: I64, counting: PairCounting) -> PairsOf:
        """The pairs of `items`, each once, with their sums under `counting`."""
        power = LAG_POWERS.index(counting.lag_power)
        tables = (self.session, self.beyond) if counting.gap == "any" else (self.session,)
        levels = [level for table in tables for level in table.of(items, power) if len(level.keys)]
        if len(levels) == 1:
            return levels[0]
        if not levels:
            return PairsOf(np.empty(0, np.uint64), np.empty(0), np.empty(0))
        keys, forward, backward = map(np.concatenate, zip(*levels, strict=True))
        order = np.argsort(keys, kind="stable")  # merges the levels, which ascend
        keys = keys[order]
        starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        return PairsOf(
            keys[starts],
            np.add.reduceat(forward[order], starts),
            np.add.reduceat(backward[order], starts),
        )

    def dump(self) -> dict[str, NDArray[Any]]:
        """As `load` takes it."""
        tables = (("session", self.session.settle()), ("beyond", self.beyond.settle()))
        return {
            f"{name}_{column}": held
            for name, rows in tables
            for column, held in zip(Rows._fields, rows, strict=True)
        }

    @classmethod
    def load(cls, held: Mapping[str, NDArray[Any]]) -> Pairs:
        pairs = cls()
        pairs.session, pairs.beyond = (
            PairSums(Rows(*(held[f"{name}_{column}"] for column in Rows._fields)))
            for name in ("session", "beyond")
        )
        return pairs


def _totals(sums: F64, count: I64) -> F64:
    """(n,) the sum of its list for each; lists of `count` follow one another. Lists of one length are summed
    together, each in the order of a list by itself."""
    totals, starts = np.empty(len(sums)), np.cumsum(count) - count
    for length in np.unique(count[count > 0]).tolist():
        at = starts[count == length][:, None] + np.arange(length)
        totals[at] = sums[at].sum(1, keepdims=True)
    return totals
