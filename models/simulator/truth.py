"""The true qualities of items, and the distribution of people's tastes: fitted to real ratings.

An item j has a direction of taste q_j (norm 1) and a pull b_j apart from taste. A person's taste p is drawn
from N(mu, S), fitted to the people of the ratings, and has norm 1 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.arrays import F64

TASTE_DIM: Final = 16
MIN_RATINGS: Final = 5
"""An item with fewer ratings gets its direction from its category."""
SPREAD: Final = 0.3
"""Standard deviation, by coordinate, of an item about its category."""

Ints = NDArray[np.int64]


class Items(NamedTuple):
    """Of n items: `q` (n, DIM), rows of norm 1; `b` (n,), mean 0 and variance 1 over the rated."""

    q: F64
    b: F64


class Tastes(NamedTuple):
    """N(mean, root root^T)."""

    mean: F64
    root: F64

    def draw(self, count: int, rng: Generator) -> F64:
        """(count, DIM), rows of norm 1."""
        return normalised(self.mean + rng.standard_normal((count, TASTE_DIM)) @ self.root.T)


def factors(person: Ints, item: Ints, people: int, items: int) -> tuple[F64, F64]:
    """(people, DIM) and (items, DIM), whose inner products approximate the matrix of ratings.

    The truncated SVD of the matrix with 1 where a person rated an item: rows of norm 1, so that busy people
    weigh no more, and the mean row removed, so that popularity gives an item no direction.
    """
    rated = np.zeros((people, items))
    rated[person, item] = 1
    matrix = normalised(rated)
    matrix -= matrix.mean(0)
    # (people, people): there are fewer of them than of items
    values, vectors = np.linalg.eigh(matrix @ matrix.T)
    values, vectors = values[::-1][:TASTE_DIM], vectors[:, ::-1][:, :TASTE_DIM]
    width = np.sqrt(np.sqrt(np.maximum(values, 1e-12)))  # root of the singular value
    u, v = vectors * width, (matrix.T @ vectors) / width
    missing = ((0, 0), (0, TASTE_DIM - u.shape[1]))  # fewer people than dimensions
    return np.pad(u, missing), np.pad(v, missing)


def items(vectors: F64, counts: Ints, categories: Sequence[str], rng: Generator) -> Items:
    """`vectors` (n, DIM) as `factors` gives them, `counts` (n,) ratings of each.

    An item with fewer than `MIN_RATINGS` ratings lies about the mean direction of its category, or of all.
    """
    rated = counts >= MIN_RATINGS
    q = normalised(vectors)
    everything = q[rated].mean(0) if rated.any() else np.zeros(TASTE_DIM)
    names = np.array(categories)
    noise = SPREAD * rng.standard_normal(q.shape)
    for name in dict.fromkeys(categories):
        of_it = names == name
        middle = q[of_it & rated].mean(0) if (of_it & rated).any() else everything
        q[of_it & ~rated] = normalised(middle + noise[of_it & ~rated])
    logs = np.log(np.maximum(counts, 1))
    rated_logs = logs[rated] if rated.any() else logs
    return Items(q, (logs - rated_logs.mean()) / (rated_logs.std() or 1.0))


def tastes(vectors: F64) -> Tastes:
    """Fitted to the (m, DIM) vectors of people."""
    directions = normalised(vectors)
    centred = directions - directions.mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred / max(1, len(directions)))
    return Tastes(directions.mean(0), axes * np.sqrt(np.maximum(values, 0)))


def normalised(vectors: F64) -> F64:
    """Rows of norm 1; a row of zeros stays."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float64)
