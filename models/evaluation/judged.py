"""Metrics of judged lists: several relevant items a list, graded, as in baskets and lists of rated films.

Equal scores count at their expectation over a random order: each place among equals holds their mean gain
(McSherry, Najork 2008, "Computing information retrieval performance measures efficiently in the presence of
tied scores"). All values lie in [0, 1]; those of a list without a relevant item are 0, and mean nothing:
leave such lists out (`has_relevant`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64, Mask
from models.evaluation.ranking import MAX_RANK

GAINS: Final[Mapping[str, Callable[[F64], F64]]] = {
    "exponential": lambda grade: np.exp2(grade) - 1,
    "linear": lambda grade: grade,
    "binary": lambda grade: np.where(grade > 0, 1.0, 0.0),
}
"""What an item of a grade >= 0 gains: 2^r - 1 (Burges et al. 2005), r (Järvelin, Kekäläinen 2002), or 1."""


class JudgedLists(NamedTuple):
    """n items of L lists, one list after the other: `score` (n,), where NaN is the lowest; `grade` (n,) >= 0,
    relevant above 0; `size` (L,)."""

    score: F64
    grade: F64
    size: I64

    @property
    def has_relevant(self) -> Mask:
        """(L,)"""
        return np.bincount(self._index, self.grade > 0, len(self.size)) > 0

    @property
    def _index(self) -> I64:
        return np.repeat(np.arange(len(self.size)), self.size)


def ndcg(lists: JudgedLists, cut: int = MAX_RANK, gain: str = "exponential") -> F64:
    """(L,) the discounted gain of the first `cut` places over that of the best order; `gain`: of `GAINS`.

    >>> lists = JudgedLists(np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([3]))
    >>> ndcg(lists).round(4).tolist()
    [0.6309]
    """
    gains = GAINS[gain](lists.grade)
    discount = np.where(_place(lists) < cut, 1 / np.log2(_place(lists) + 2.0), 0.0)
    found = _sums(lists, discount * _in_expectation(lists, lists.score, gains))
    best = _sums(lists, discount * _in_expectation(lists, gains, gains))
    return found / np.where(best > 0, best, 1.0)


def recall(lists: JudgedLists, cut: int = MAX_RANK) -> F64:
    """(L,) the share of a list's relevant items within the first `cut` places.

    >>> lists = JudgedLists(np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0]), np.array([3]))
    >>> recall(lists, 2).tolist(), precision(lists, 2).tolist(), mrr(lists).tolist()
    ([0.5], [0.5], [0.5])
    """
    relevant = _sums(lists, (lists.grade > 0).astype(np.float64))
    return _relevant(lists, cut) / np.maximum(relevant, 1.0)


def precision(lists: JudgedLists, cut: int = MAX_RANK) -> F64:
    """(L,) the share of the first `cut` places with a relevant item; a shorter list has empty places."""
    return _relevant(lists, cut) / cut


def hits(lists: JudgedLists, cut: int = MAX_RANK) -> F64:
    """(L,) 1 where a relevant item is within the first `cut` places; among equals, the chance of it.

    >>> hits(JudgedLists(np.zeros(4), np.array([1.0, 0.0, 0.0, 0.0]), np.array([4])), 1).tolist()
    [0.25]
    """
    return _by_first(lists, np.ones(cut))


def mrr(lists: JudgedLists, cut: int = MAX_RANK) -> F64:
    """(L,) 1 / the rank of the first relevant item, 0 below the cut."""
    return _by_first(lists, 1 / np.arange(1.0, cut + 1))


def _by_first(lists: JudgedLists, gain: F64) -> F64:
    """(L,) `gain` (cut,) at the rank of the first relevant item, in expectation.

    Of m equals after a higher ones r are relevant: the first is the (j + 1)th with the chance that j of the
    m - r others come before, (m - r)/m … (m - r - j + 1)/(m - j + 1), times r/(m - j).
    """
    order, begins, equals = _groups(lists, lists.score)
    relevant = (
        np.add.reduceat((lists.grade[order] > 0) * 1.0, begins) if len(begins) else np.empty(0)
    )
    owner, place = lists._index[order][begins], _place(lists)[begins]
    some = np.flatnonzero(relevant)
    first = some[np.diff(owner[some], prepend=-1) > 0]  # of each list
    r, m, above = relevant[first], equals[first].astype(np.float64), place[first]
    later, value = np.ones(len(first)), np.zeros(len(first))
    gains = np.append(gain, 0.0)
    for j in range(len(gain)):
        chance = np.where(j <= m - r, later * r / np.maximum(m - j, 1), 0.0)
        value += chance * gains[np.minimum(above + j, len(gain))]
        later *= np.maximum(m - r - j, 0) / np.maximum(m - j, 1)
    return np.bincount(owner[first], value, len(lists.size)).astype(np.float64)


def _relevant(lists: JudgedLists, cut: int) -> F64:
    """(L,) relevant items in expectation within the first `cut` places."""
    each = _in_expectation(lists, lists.score, GAINS["binary"](lists.grade))
    return _sums(lists, np.where(_place(lists) < cut, each, 0.0))


def _groups(lists: JudgedLists, score: F64) -> tuple[I64, I64, I64]:
    """The order of the n items by list and falling score; where each run of equal scores begins in it, and
    how many it has."""
    index, down = lists._index, -np.where(np.isnan(score), -np.inf, score)
    order = np.lexsort((down, index))
    same = (np.diff(index[order]) == 0) & (down[order][1:] == down[order][:-1])
    new = np.concatenate(([True], ~same))[: len(order)]
    begins = np.flatnonzero(new)
    return order, begins, np.diff(begins, append=len(order))


def _in_expectation(lists: JudgedLists, score: F64, values: F64) -> F64:
    """(n,) by place, list after list: the mean of `values` among the equals there."""
    order, begins, equals = _groups(lists, score)
    if not len(begins):
        return np.empty(0)
    return np.repeat(np.add.reduceat(values[order], begins) / equals, equals)


def _place(lists: JudgedLists) -> I64:
    """(n,) 0 for the first of each list."""
    return np.arange(len(lists.score)) - np.repeat(np.cumsum(lists.size) - lists.size, lists.size)


def _sums(lists: JudgedLists, values: F64) -> F64:
    return np.bincount(lists._index, values, len(lists.size)).astype(np.float64)
