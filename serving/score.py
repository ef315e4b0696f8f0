"""COLUMNS: what a score is made of. A new one is a function and a line here.

score = sum over columns of recipe.weights[column] x value. Values lie in 0 to 1 (affinity: -1 to 1) and do
not depend on the rate of events; a co-visitation score is a probability, typically .01 to .1, which is why
the default weights of the others are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.affinity import affinity as decayed
from serving.case import Case, Numbers
from serving.catalogue import Slots
from serving.sources import Pool


class Kept(NamedTuple):
    """(k,) candidates of a pool: their numbers in it, and their slots."""

    numbers: NDArray[np.intp]
    slots: Slots


class Column(NamedTuple):
    """`value(case, pool, kept)`: (k,) for the candidates kept; None where it can tell nothing of this
    person."""

    name: str
    value: Callable[[Case, Pool, Kept], Numbers | None]


class Scored(NamedTuple):
    """`totals` (k,), and the values (k,) of each column that took part. `order`: best first."""

    kept: NDArray[np.intp]
    totals: NDArray[np.float32]
    values: dict[str, Numbers]
    order: NDArray[np.intp]


def covisit(case: Case, pool: Pool, kept: Kept) -> Numbers | None:
    """Neighbour scores, averaged over what speaks for the person by weight: about p(item | them)."""
    if "covisit" not in pool.drawn or not len(pool.drawn["covisit"].slots):
        return None
    return pool.sums("covisit")[kept.numbers]


def content(case: Case, pool: Pool, kept: Kept) -> Numbers | None:
    """Cosine to the person's vector, at least 0."""
    if not len(case.interest.slots):
        return None
    # exact in float32, whatever sums it (models.content)
    cosines = case.world.items.vectors.take(kept.slots, 0) @ case.vector
    similar: Numbers = np.maximum(cosines, 0).astype(np.float64)
    return similar


def popular(case: Case, pool: Pool, kept: Kept) -> Numbers | None:
    """Popularity relative to the most popular item."""
    return case.world.tables.share(kept.slots, case.window)


def category(case: Case, pool: Pool, kept: Kept) -> Numbers | None:
    """1 for a primary category that the person said they like, else 0."""
    preferences = case.person.preferences
    if not case.personal or preferences is None or not preferences.liked_categories:
        return None
    items = case.world.items
    liked = np.zeros(len(items.categories.texts))
    liked[[items.categories.find(name) or 0 for name in preferences.liked_categories]] = 1
    liked[0] = 0
    return liked[items.category[kept.slots]]


def affinity(case: Case, pool: Pool, kept: Kept) -> Numbers | None:
    """What the person did lately in the primary category, relative to their dearest, -1 to 1."""
    if not case.personal:
        return None
    items = case.world.items
    hashes, sums = decayed(case.person.row, case.ask.now)
    top = sums.max(initial=0.0)
    if not top > 0:
        return None
    leaning = np.zeros(len(items.categories.texts))
    numbers = [items.category_numbers.get(value, 0) for value in hashes.tolist()]
    leaning[numbers] = np.maximum(sums / top, -1)
    leaning[0] = 0
    return leaning[items.category[kept.slots]]


COLUMNS: Final = (
    Column("covisit", covisit),
    Column("content", content),
    Column("popular", popular),
    Column("category", category),
    Column("affinity", affinity),
)


def score(case: Case, pool: Pool, numbers: NDArray[np.intp]) -> Scored:
    """The weighted sum of all columns, and the order it gives."""
    weights = case.world.weights
    kept = Kept(numbers, pool.slots[numbers])
    totals, values = np.zeros(len(numbers)), {}
    for column in COLUMNS:
        weight = weights.get(column.name)
        if weight and (value := column.value(case, pool, kept)) is not None:
            values[column.name] = value
            totals += weight * value
    rounded = totals.astype(np.float32)
    return Scored(numbers, rounded, values, ranked(rounded, _ties(case, pool)[numbers]))


def _ties(case: Case, pool: Pool) -> NDArray[np.uint64]:
    """(n,) what goes first among equals: the popular and new, in their order, then by hash."""
    ties = case.world.items.hash[pool.slots] >> np.uint64(33) | np.uint64(1 << 31)
    popular = pool.numbers["popular"]
    ties[popular] = np.arange(len(popular), dtype=np.uint64)
    return ties


def ranked(totals: NDArray[np.float32], ties: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Places of `totals`, highest first; ties (below 2^32) ascending.

    One sort of one integer: the float's bits, turned to ascend as scores fall, then the tie.
    """
    bits = totals.view(np.int32)
    falls = np.where(bits < 0, bits, ~bits & 0x7FFFFFFF).astype(np.uint32)
    return (falls.astype(np.uint64) << np.uint64(32) | ties).argsort()
