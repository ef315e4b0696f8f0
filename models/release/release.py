"""A release as code uses it: one space of vectors, one coarse model, at most one ranker. Immutable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.release.content import DIM
from models.release.trees import Trees
from schemas.state.counting import BUILT_IN, Counting

Vectors = NDArray[np.float32]
"""(n, `content.DIM`) on `content`'s grid (norm at most 1), so that every inner product is exact."""
Scores = NDArray[np.float32]
MAX_RANKED: Final = 100
"""Candidates that the ranker sees: the best by the coarse model."""


def rows_of(among: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(n,) index of each hash in `among`, which ascends; -1 where it is missing."""
    if not len(among):
        return np.full(len(hashes), -1)
    at = np.minimum(np.searchsorted(among, hashes), len(among) - 1)
    return np.where(among[at] == hashes, at, -1)


@dataclass(frozen=True)
class Space:
    """Item vectors, learnt of interactions and content. `hashes` ascend."""

    hashes: NDArray[np.uint64]
    vectors: Vectors
    encode: Callable[[Vectors], Vectors]
    """Content vectors of items that are not in the space -> their vectors in it, (n, DIM) each."""

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) row of each hash, -1 where there is none."""
        return rows_of(self.hashes, hashes)


@dataclass(frozen=True)
class Release:
    """`features` are the ranker's columns in their order; `rank` takes (n, len(features)) float32, and runs
    ONNX Runtime."""

    id: str
    features: tuple[str, ...]
    coarse: Mapping[str, float]
    """Weights of the coarse model, by column; empty: it has none."""
    space: Space
    rank: Callable[[Vectors], Scores] | None = None
    counting: Counting = BUILT_IN
    """How pairs and popularity are counted while it serves."""
    trees: Trees | None = None
    """The ranker as the kernel evaluates it, where ONNX Runtime agreed with it; None: `rank` serves."""
    without_trees: str = ""
    """Why a release with a ranker has no `trees`."""

    def predict(self, rows: Vectors) -> Scores:
        """(n,) float32 by the ranker, of (n, len(features)) rows. There must be one."""
        if self.trees is not None:
            return self.trees.predict(rows)
        assert self.rank is not None
        return self.rank(rows)


NO_SPACE: Final = Space(
    np.empty(0, np.uint64),
    np.empty((0, DIM), np.float32),
    np.zeros_like,
)
