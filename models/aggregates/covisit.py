"""Co-visitation: items that are acted on one after the other, as decayed sums over directed pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

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
MAX_ITEMS_AT_ONCE: Final = 1024
"""So many lists are made at once: it bounds the memory that this takes."""
_SHIFT: Final = np.uint64(32)
_NEXT: Final = np.uint64(1)
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


class Directed(NamedTuple):
    """Pairs of some items, each once: the key ``index of the item << 32 | partner``, ascending, and the sums
    of (item, partner) and of (partner, item)."""

    keys: U64
    forward: F64
    backward: F64

    def where(self, mask: Mask) -> Directed:
        return Directed(self.keys[mask], self.forward[mask], self.backward[mask])


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
        if len(items) > MAX_ITEMS_AT_ONCE:
            some = range(0, len(items), MAX_ITEMS_AT_ONCE)
            cut = [items[at : at + MAX_ITEMS_AT_ONCE] for at in some]
            return [it for its in cut for it in self.neighbours(its, hashes, counting)]
        found = self.of(items, counting)
        sums = found.forward + counting.backward * found.backward
        positive = sums > 0
        if not positive.all():
            found, sums = found.where(positive), sums[positive]
        place, partner = parts(found.keys)
        count = np.bincount(place, minlength=len(items))
        order = _best(place, hashes[partner], sums, count)
        count = np.minimum(count, NEIGHBOURS_PER_ITEM)
        total = _totals(sums[order], count)
        rows = np.empty(len(order), NEIGHBOUR)
        rows["item"], rows["score"] = hashes[partner[order]], sums[order] / total
        rows["forward"] = np.minimum(found.forward[order] / total, LARGEST_SHARE)
        rows["backward"] = np.minimum(found.backward[order] / total, LARGEST_SHARE)
        data, end_offsets = rows.tobytes(), NEIGHBOUR.itemsize * np.cumsum(count)
        starts = end_offsets - NEIGHBOUR.itemsize * count
        return [data[i:j] for i, j in zip(starts.tolist(), end_offsets.tolist(), strict=True)]

    def of(self, items: I64, counting: PairCounting) -> Directed:
        """The pairs of `items` under `counting`."""
        power = LAG_POWERS.index(counting.lag_power)
        tables = (self.session, self.beyond) if counting.gap == "any" else (self.session,)
        found = [NO_PAIRS, *(pairs for table in tables for pairs in table.of(items, power))]
        keys = np.concatenate([pairs.keys for pairs in found])
        sums = np.concatenate([pairs.sums for pairs in found])
        backward = np.repeat([it.backward for it in found], [len(it.keys) for it in found])
        # sorting keys with their place below them is many times quicker than an argsort of keys
        room = np.uint64(32 - (len(items) - 1).bit_length())
        if len(keys) >> int(room):
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
        else:
            packed = np.sort(keys << room | np.arange(len(keys), dtype=np.uint64))
            keys, order = packed >> room, (packed & ((_NEXT << room) - _NEXT)).astype(np.int64)
        starts = np.flatnonzero(np.diff(keys, prepend=~keys[:1]))
        sums, backward = sums[order], backward[order]
        forward = np.where(backward, 0, sums)
        if not len(keys):
            return Directed(keys, forward, sums)
        return Directed(
            keys[starts],
            np.add.reduceat(forward, starts),
            np.add.reduceat(np.where(backward, sums, 0), starts),
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


def _best(place: I64, hashes: U64, sums: F64, count: I64) -> I64:
    """The best of each list, as places in these columns, list by list and best first. `place` (n,) of each
    list ascends, `count` of them are in each."""
    starts = np.cumsum(count) - count
    some = starts[count > 0]
    most = np.repeat(np.maximum.reduceat(sums, some) if len(some) else sums, count[count > 0])
    relative = (sums / most).astype(np.float32)
    # bits of floats in 0 to 1 sort as the floats do: with the place above them they are one sort key
    keys = place.astype(np.uint64) << _SHIFT | (_ONE - relative.view(np.uint32)).astype(np.uint64)
    worst = np.full(len(count), np.iinfo(np.uint64).max)
    long = np.flatnonzero(count > NEIGHBOURS_PER_ITEM)
    if len(long):
        worst[long] = np.sort(keys)[starts[long] + NEIGHBOURS_PER_ITEM - 1]
    near = np.flatnonzero(keys <= worst[place])
    order = near[np.lexsort((hashes[near], keys[near]))]
    held = np.bincount(place[near], minlength=len(count))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(held) - held, held)
    best: I64 = order[rank < NEIGHBOURS_PER_ITEM]
    return best


def _totals(sums: F64, count: I64) -> F64:
    """(n,) the sum of its list for each; lists of `count` follow one another. Lists of one length are summed
    together, each in the order of a list by itself."""
    totals, starts = np.empty(len(sums)), np.cumsum(count) - count
    for length in np.unique(count[count > 0]).tolist():
        at = starts[count == length][:, None] + np.arange(length)
        totals[at] = sums[at].sum(1, keepdims=True)
    return totals
