"""Co-visitation: items that are acted on one after the other, as decayed sums over directed pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregates.best_partners import Best, BestPartners
from models.aggregates.decay import Landmark
from models.aggregates.pair_sums import PairsOf, PairSums, Rows, ranges
from models.arrays import F64, I64, U64, Mask
from models.kernels.loading import Kernel, kernel
from schemas.state.counting import LAG_POWERS
from schemas.state.tables import NEIGHBOUR, PairCounting

PAIR_HALF_LIFE: Final = 1825 * 86_400.0
"""Seconds. Years, not weeks: on MovieLens 30 days cost a third of HR@10, in a shop 5 years cost nothing."""
NEIGHBOURS_PER_ITEM: Final = 50
PAIRS_AT_ONCE: Final = 40_000
"""Of about so many pairs lists are made at once: they fit into a processor's cache."""
MAX_LISTS_AT_ONCE: Final = 1024
_SHIFT: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFF_FFFF)
_NEXT: Final = np.uint64(1)
_ONE: Final = np.float32(1).view(np.uint32)
_BITS: Final = np.uint64(30)
"""Of a float in 0 to 1."""
LARGEST_SHARE: Final = float(np.finfo(np.float16).max)
"""A larger one, of what hardly counts in the score, is published as this."""
_LAGS: Final = np.arange(1, 256)
_WEIGHTS: Final = np.array([[0.0, *_LAGS**-power] for power in LAG_POWERS])
"""(lag powers, lags): `nearness` by lag."""


def nearness(lag: NDArray[np.uint8], power: float = 0.5) -> F64:
    """(m,) weight of each pair, 1 / lag^power: the nearer the visit (lag 1: just before), the heavier."""
    weight: F64 = lag.astype(np.float64) ** -power
    return weight


class ScoredPairs(NamedTuple):
    """n pairs of some items, each once: the key ``index of the item << 32 | partner``, ascending, and the
    score, which is made of ``terms[order[starts[i] : stops[i]]]``. The first `forward` terms are of (item,
    partner), the others of (partner, item)."""

    keys: U64
    scores: F64
    starts: I64
    stops: I64
    order: I64
    terms: F64
    forward: int

    def where(self, mask: Mask) -> ScoredPairs:
        """The pairs under `mask` (n,)."""
        return self._replace(
            keys=self.keys[mask],
            scores=self.scores[mask],
            starts=self.starts[mask],
            stops=self.stops[mask],
        )

    def partners(self, pairs: I64) -> I64:
        return (self.keys[pairs] & _LOW).astype(np.int64)

    def sums(self, pairs: I64) -> F64:
        """(2, m) the sums of (item, partner) and of (partner, item) of some pairs."""
        n, count = len(pairs), self.stops[pairs] - self.starts[pairs]
        number = self.order[ranges(self.starts[pairs], count)]
        which = np.repeat(np.arange(n), count) + n * (number >= self.forward)
        both: F64 = np.bincount(which, self.terms[number], 2 * n).astype(np.float64)
        return both.reshape(2, n)


NO_PAIRS: Final = PairsOf(np.empty(0, np.uint64), np.empty(0), False)


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
        best = self.best(items, hashes, counting)
        return [rows for found in best for rows in _lists(found, hashes)]

    def best(
        self, items: I64, hashes: U64, counting: PairCounting, compiled: Kernel | None = kernel
    ) -> Iterator[Best]:
        """The best partners of `items`, as `neighbours` has them, in pieces."""
        if compiled is None:
            yield from self.best_by_numpy(items, hashes, counting)
            return
        levels = [level for table in self._tables(counting) for level in table.levels()]
        power = LAG_POWERS.index(counting.lag_power)
        found = BestPartners(
            compiled, levels, hashes, power, counting.backward, NEIGHBOURS_PER_ITEM
        )
        for at in range(0, len(items), MAX_LISTS_AT_ONCE):
            yield found.of(items[at : at + MAX_LISTS_AT_ONCE])

    def best_by_numpy(self, items: I64, hashes: U64, counting: PairCounting) -> Iterator[Best]:
        """The definition of `best`."""
        at, many = 0, 1
        while at < len(items):
            some = items[at : at + many]
            found = self.of(some, counting)
            yield _best(found, len(some), hashes)
            at += len(some)
            many = len(some) * PAIRS_AT_ONCE // max(1, len(found.terms))
            many = min(max(1, many), MAX_LISTS_AT_ONCE)

    def _tables(self, counting: PairCounting) -> tuple[PairSums, ...]:
        return (self.session, self.beyond) if counting.gap == "any" else (self.session,)

    def of(self, items: I64, counting: PairCounting) -> ScoredPairs:
        """The pairs of `items` that have a score under `counting`."""
        power = LAG_POWERS.index(counting.lag_power)
        found = [pairs for table in self._tables(counting) for pairs in table.of(items, power)]
        found = [NO_PAIRS, *sorted(found, key=lambda pairs: pairs.backward)]  # forward ones first
        weighed = [it.sums * counting.backward if it.backward else it.sums for it in found]
        keys, order = _sorted(np.concatenate([pairs.keys for pairs in found]), len(items), 32)
        starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        scores = np.concatenate(weighed)[order]
        scores = np.add.reduceat(scores, starts) if len(starts) else scores
        terms = np.concatenate([pairs.sums for pairs in found])
        forward = sum(len(pairs.keys) for pairs in found if not pairs.backward)
        scored = ScoredPairs(
            keys[starts], scores, starts, np.append(starts, len(keys))[1:], order, terms, forward
        )
        positive = scores > 0
        return scored if positive.all() else scored.where(positive)

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


def _lists(best: Best, hashes: U64) -> list[bytes]:
    total = _totals(best.scores, best.many)
    rows = np.empty(len(total), NEIGHBOUR)
    rows["item"], rows["score"] = hashes[best.partners], best.scores / total
    for name, its in (("forward", best.forward), ("backward", best.backward)):
        rows[name] = np.minimum(its / total, LARGEST_SHARE)
    data, end_offsets = rows.tobytes(), NEIGHBOUR.itemsize * np.cumsum(best.many)
    starts = end_offsets - NEIGHBOUR.itemsize * best.many
    return [data[i:j] for i, j in zip(starts.tolist(), end_offsets.tolist(), strict=True)]


def _sorted(keys: U64, items: int, bits: int) -> tuple[U64, I64]:
    """The keys ascending, and the places that they had. What is above the low `bits` is below `items`."""
    room = np.uint64(64 - bits - (items - 1).bit_length())
    if len(keys) >> int(room):
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    # sorting keys with their place below them is many times quicker than an argsort
    packed = keys << room
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    return packed >> room, (packed & ((_NEXT << room) - _NEXT)).astype(np.int64)


def _best(found: ScoredPairs, items: int, hashes: U64) -> Best:
    pairs, count = _best_pairs(found, items, hashes)
    forward, backward = found.sums(pairs)
    return Best(found.partners(pairs), found.scores[pairs], forward, backward, count)


def _best_pairs(found: ScoredPairs, items: int, hashes: U64) -> tuple[I64, I64]:
    """The best pairs of each item, item by item and best first, and how many they are."""
    bounds = np.searchsorted(found.keys, np.arange(items + 1, dtype=np.uint64) << _SHIFT)
    starts, count = bounds[:-1], np.diff(bounds)
    if not len(found.keys):
        return starts[:0], count
    most = np.repeat(np.maximum.reduceat(found.scores, starts[count > 0]), count[count > 0])
    relative = (found.scores / most).astype(np.float32)
    # bits of floats in 0 to 1 sort as the floats do: with the place above them they are one sort key
    low = (_ONE - relative.view(np.uint32)).astype(np.uint64)
    keys, order = _sorted(found.keys >> _SHIFT << _BITS | low, items, int(_BITS))
    worst = keys[np.minimum(starts + NEIGHBOURS_PER_ITEM, bounds[1:]) - 1]
    near = np.flatnonzero(keys <= np.repeat(worst, count))
    keys, order = keys[near], order[near]
    same = np.flatnonzero(keys[1:] == keys[:-1])
    if len(same):
        same = np.union1d(same, same + 1)
        equal = order[same]
        order[same] = equal[np.lexsort((hashes[found.partners(equal)], keys[same]))]
    held = np.bincount((keys >> _BITS).astype(np.int64), minlength=items)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(held) - held, held)
    return order[rank < NEIGHBOURS_PER_ITEM], np.minimum(count, NEIGHBOURS_PER_ITEM)


def _totals(sums: F64, count: I64) -> F64:
    """(n,) the sum of its list for each; lists of `count` follow one another. Lists of one length are summed
    together, each in the order of a list by itself."""
    totals, starts = np.empty(len(sums)), np.cumsum(count) - count
    for length in np.unique(count[count > 0]).tolist():
        at = starts[count == length][:, None] + np.arange(length)
        totals[at] = sums[at].sum(1, keepdims=True)
    return totals
