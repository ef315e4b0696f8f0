"""The coarse score of each candidate: the sum over columns of weight x value.

The weights are the recipe's, else the release's, else the built-in ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.decide.case import Case
from serving.decide.columns import ALL_COLUMNS
from serving.decide.pool import POPULARITY, Kept, Places, Pool
from serving.decide.results import Scored


def score(case: Case, pool: Pool, numbers: Places) -> Scored:
    """The weighted sum of all columns for the candidates `numbers`, and their order by it."""
    weights = case.world.weights
    kept = Kept(numbers, pool.slots[numbers])
    totals, values = np.zeros(len(numbers)), {}
    for column in ALL_COLUMNS:
        weight = weights.get(column.name)
        if weight and (value := column.value(case, pool, kept)) is not None:
            values[column.name] = value
            totals += weight * value
    rounded = totals.astype(np.float32)
    return Scored(
        numbers, rounded, values, order_by_score(rounded, _secondary(case, pool)[numbers])
    )


def _secondary(case: Case, pool: Pool) -> NDArray[np.uint64]:
    """(n,) sort key of equal scores, below 2^32: the order of the first source of popularity, then the
    hash."""
    secondary = case.world.items.hash[pool.slots] >> np.uint64(33) | np.uint64(1 << 31)
    popular = next(pool.numbers[name] for name in POPULARITY if name in pool.numbers)
    # backwards: the best place of a candidate that comes several times
    secondary[popular[::-1]] = np.arange(len(popular), dtype=np.uint64)[::-1]
    return secondary


def order_by_score(totals: NDArray[np.float32], secondary: NDArray[np.uint64]) -> Places:
    """Places of `totals`, highest first; equal ones by `secondary` (below 2^32), ascending.

    One sort of one integer: the float's bits, mapped to ascend as scores fall, then the secondary key.
    """
    bits = totals.view(np.int32)
    falls = np.where(bits < 0, bits, ~bits & 0x7FFFFFFF).astype(np.uint32)
    return (falls.astype(np.uint64) << np.uint64(32) | secondary).argsort()
