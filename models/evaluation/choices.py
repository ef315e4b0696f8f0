"""Metrics of choices, of one relevant item each: a metric is what the choice gains at its rank.

HR, Recall: 1. Precision: 1 / cut. NDCG: 1 / log2(rank + 1) (Järvelin, Kekäläinen 2002, "Cumulated gain-based
evaluation of IR techniques"; the ideal gain of one relevant item is 1). MRR: 1 / rank (Voorhees 1999, TREC-8
question answering). All are 0 below the cut and lie in [0, 1]; with one relevant item HR equals Recall.

Where items have equal scores the rank is a matter of their order. The rank of the choice is then uniform over
`above` + 1 … `above` + `equal` + 1: a gain counts at its expectation (McSherry, Najork 2008, "Computing
information retrieval performance measures efficiently in the presence of tied scores").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import F64, I64, Mask
from models.evaluation.ranking import MAX_RANK, Ranks

NEGATIVES: Final = 100
"""Items that a choice is ranked among, beside the whole catalogue, to compare with papers that do so."""
MAX_NEGATIVES: Final = 500
"""The probabilities of larger draws are beyond what a float holds."""
MAX_CELLS: Final = 100_000
"""Numbers of one temporary array: what a cache holds."""
METRICS: Final[Mapping[str, Callable[[F64], F64]]] = {
    "hr": np.ones_like,
    "ndcg": lambda rank: 1 / np.log2(rank + 1),
    "recall": np.ones_like,
    "precision": lambda rank: np.full_like(rank, 1 / len(rank)),
    "mrr": lambda rank: 1 / rank,
}
"""Name -> the gain at the ranks 1 … cut."""


class Scored(NamedTuple):
    """How a choice was scored among the items that it could be: `above` (G,), the number of higher scores;
    `equal` (G,), the number of other items with its own score. An item without a score has the lowest: with c
    candidates of n eligible items, a choice that is none has `above` c and `equal` n - c - 1. `above` -1: the
    choice was not eligible, and gains 0."""

    above: I64
    equal: I64

    @property
    def optimistic(self) -> Ranks:
        """The rank if it came first among its equals."""
        return self.above + 1

    @property
    def pessimistic(self) -> Ranks:
        """The rank if it came last among them."""
        return np.where(self.above < 0, 0, self.above + self.equal + 1)


def compared(scores: NDArray[Any], choice: I64, own: NDArray[Any], there: Mask) -> Scored:
    """The score `own` (G,) of each choice against those of its candidates, its own among them: `scores`
    (rows,) and the choice of each, `choice` (rows,). `there` (G,): the choice is a candidate.

    >>> compared(np.array([3.0, 2.0, 2.0]), np.zeros(3, np.int64), np.array([2.0]), np.array([True]))
    Scored(above=array([1]), equal=array([1]))
    """
    above = np.bincount(choice, scores > own[choice], len(own)).astype(np.int64)
    equal = np.bincount(choice, scores == own[choice], len(own)).astype(np.int64)
    return Scored(np.where(there, above, -1), np.where(there, equal - 1, 0))


def gain_at_ranks(name: str, cut: int = MAX_RANK) -> F64:
    """(cut,) of one of `METRICS`.

    >>> gain_at_ranks("ndcg", 3).round(3).tolist()
    [1.0, 0.631, 0.5]
    """
    return METRICS[name](np.arange(1.0, cut + 1))


def gained(name: str, ranks: Ranks, cut: int = MAX_RANK) -> F64:
    """(G,) what each choice gains at its rank (G,), where 0 is a miss.

    >>> gained("mrr", np.array([1, 4, 11, 0])).tolist()
    [1.0, 0.25, 0.0, 0.0]
    """
    table = np.concatenate(([0.0], gain_at_ranks(name, cut), [0.0]))
    return table[np.clip(ranks, 0, cut + 1)]


def expected(name: str, scored: Scored, cut: int = MAX_RANK) -> F64:
    """(G,) the gain in expectation over a random order of equal scores.

    >>> expected("hr", Scored(np.array([9, 9, 0]), np.array([0, 1, 39])), 10).tolist()
    [1.0, 0.5, 0.25]
    """
    total = np.concatenate(([0.0], np.cumsum(gain_at_ranks(name, cut))))
    first, last = np.clip(scored.above, 0, cut), np.clip(scored.above + scored.equal + 1, 0, cut)
    gain: F64 = (total[last] - total[first]) / (scored.equal + 1)
    return np.where(scored.above < 0, 0.0, gain)


def among_negatives(
    name: str, scored: Scored, eligible: I64, negatives: int = NEGATIVES, cut: int = MAX_RANK
) -> F64:
    """(G,) the gain in expectation if the choice were ranked among `negatives` of its `eligible` (G,) other
    items, drawn uniformly without replacement; among all of them where there are fewer.

    Of N others, a score higher and e equal; the draw of n has x of the a, y of the e and n - x - y of the
    rest with the multivariate hypergeometric probability, and the choice then gains as in `expected`.
    Exact, no sampling. The level says little about the full ranking: Krichene, Rendle 2020, "On sampled
    metrics for item recommendation". Errors: ValueError above `MAX_NEGATIVES`.

    >>> one = Scored(np.array([1]), np.array([0]))
    >>> among_negatives("mrr", one, np.array([2]), negatives=1).tolist()  # half the draws hold the better one
    [0.75]
    """
    if negatives > MAX_NEGATIVES:
        raise ValueError(f"{negatives} negatives: {MAX_NEGATIVES} are the most")
    found = expected(name, scored, cut)
    drawn = np.flatnonzero((eligible > negatives) & (scored.above >= 0))
    drawn = drawn[np.argsort(scored.equal[drawn], kind="stable")]  # blocks of one width
    step = max(1, MAX_CELLS // (negatives + 1))
    for begin in range(0, len(drawn), step):
        some = drawn[begin : begin + step]
        block = Scored(scored.above[some], scored.equal[some])
        found[some] = _drawn(name, block, eligible[some], negatives, cut)
    return found


def _drawn(name: str, scored: Scored, eligible: I64, n: int, cut: int) -> F64:
    """`among_negatives` of choices with more than `n` eligible others."""
    rows, most = min(cut, n + 1), min(n, int(scored.equal.max()))
    higher = _falling(scored.above, eligible, rows - 1)
    same = _falling(scored.equal, eligible, most)
    rest = _falling(eligible - scored.above - scored.equal, eligible, n)[:, ::-1]
    ways = _multinomials(n, rows)
    gain = np.zeros(len(eligible))
    for x in range(rows):
        width = min(most, n - x) + 1
        places = Scored(np.full(width, x), np.arange(width))
        each = ways[x, :width] * expected(name, places, cut)
        gain += higher[:, x] * ((same[:, :width] * rest[:, x : x + width]) @ each)
    others, index = np.unique(eligible, return_inverse=True)
    every: F64 = _falling(others, others, n)[index, n]
    return gain / every


def _falling(of: I64, scale: I64, n: int) -> F64:
    """(G, n + 1): of (of - 1) … (of - i + 1) / scale^i, a product of i factors; 0 from i > of on."""
    factors = np.maximum(of[:, None] - np.arange(n), 0) / scale[:, None]
    return np.cumprod(np.concatenate((np.ones((len(of), 1)), factors), axis=1), axis=1)


def _multinomials(n: int, rows: int) -> F64:
    """(rows, n + 1) at [x, y]: n! / (x! y! (n - x - y)!), 0 where x + y > n."""
    ways = [[math.comb(n, x) * math.comb(n - x, y) for y in range(n + 1)] for x in range(rows)]
    return np.array(ways, np.float64)
