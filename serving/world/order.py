"""An order of the catalogue after some of its items changed: nearly the one before, so little of it is
sorted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.arrays import F64, U64, Mask
from models.memberships import Slots


def listed_again(before: Slots, included: Mask) -> Slots:
    """The slots that are `included` (by slot): those of `before` in its order, then the others, ascending."""
    kept = before[included[before]]
    others = included.copy()
    others[kept] = False
    return np.concatenate([kept, np.flatnonzero(others).astype(np.int32)])


def highest_first(values: F64, then: F64, hashes: U64) -> NDArray[np.intp]:
    """(n,) places by the highest of `values`, then the highest of `then`, then the least hash.

    Fast where the places are nearly in this order: numpy's stable sort takes the runs that it finds.
    """
    order = np.argsort(-values, kind="stable")
    first, second = order[:-1], order[1:]
    equal = values[first] == values[second]
    first, second = first[equal], second[equal]
    wrong = then[first] < then[second]
    wrong |= (then[first] == then[second]) & (hashes[first] > hashes[second])
    return np.lexsort((hashes, -then, -values)) if wrong.any() else order
