"""Pairs of actions that wait: the codes of their items, and the facts that they become."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import F64, I64

LISTED: Final = 1 << 31
"""Bit of a code: the rest is the item's dense number."""
Codes = NDArray[np.uint32]


class PairFacts(NamedTuple):
    """Pairs of actions: dense numbers of both items, time (s) and `schemas.state.facts.Actions.lag`."""

    item: I64
    partner: I64
    time: F64
    lag: NDArray[np.uint8]


NO_PAIRS: Final = PairFacts(
    np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8)
)


def joined(*facts: PairFacts) -> PairFacts:
    """All of them, one after the other."""
    some = [each for each in facts if len(each.item)]
    if len(some) < 2:
        return some[0] if some else NO_PAIRS
    return PairFacts(*map(np.concatenate, zip(*some, strict=True)))


def in_order(counted: PairFacts, owner: I64, released: PairFacts, after: I64) -> PairFacts:
    """Both, in the order of the log: `owner` is the fact of each pair that counts at once, `after` the fact
    with which each other waits no longer."""
    if not len(released.item):
        return counted
    order = np.argsort(np.concatenate([2 * owner, 2 * after + 1]), kind="stable")
    both = joined(counted, released)
    return PairFacts(both.item[order], both.partner[order], both.time[order], both.lag[order])


def dense_numbers(codes: Codes, numbers: I64) -> I64:
    """(n,) the dense numbers of items in pairs, -1 of those that are not listed."""
    listed = codes >= LISTED
    dense = (codes & np.uint32(LISTED - 1)).astype(np.int64)
    if not len(numbers):
        return dense
    return np.where(listed, dense, numbers[np.where(listed, 0, dense)])
