"""Ranked lists as arrays, and their metrics."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import F64

MAX_RANK: Final = 10
"""Ranks that count: what one page shows."""
FeatureRows = NDArray[np.float32]
Ranks = NDArray[np.int64]


class Lists(NamedTuple):
    """n rows of G lists, one list after the other; one row of each is its target.

    `rows` (n, F), a column a feature; `target` (n,); `size` (G,). `new` (G,): few had acted on the target;
    None where that is not known.
    """

    rows: FeatureRows
    target: NDArray[np.bool_]
    size: NDArray[np.int64]
    new: NDArray[np.bool_] | None = None


def gains(ranks: Ranks, cut: int = MAX_RANK) -> F64:
    """(G,) NDCG@`cut` of one relevant item: 1 / log2(rank + 1); 0 for rank 0, which is a miss.

    Järvelin, Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques".

    >>> gains(np.array([1, 3, 11, 0])).tolist()
    [1.0, 0.5, 0.0, 0.0]
    """
    inside = (ranks > 0) & (ranks <= cut)
    return np.where(inside, 1 / np.log2(np.maximum(ranks, 1) + 1), 0.0)


def hit_rate(ranks: Ranks) -> float:
    return round(float(((ranks > 0) & (ranks <= MAX_RANK)).mean()), 5) if len(ranks) else 0.0


def ndcg(ranks: Ranks) -> float:
    return round(float(gains(ranks).mean()), 5) if len(ranks) else 0.0


def spread(rows: FeatureRows, size: NDArray[np.int64], weights: F64) -> float:
    """Mean over the lists of the standard deviation of ``rows @ weights`` within a list."""
    scores = rows.astype(np.float64) @ weights
    start = np.cumsum(size) - size
    mean = np.add.reduceat(scores, start) / size
    square = np.add.reduceat((scores - np.repeat(mean, size)) ** 2, start) / size
    return float(np.sqrt(square).mean())
