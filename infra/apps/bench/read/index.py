"""How much of the exact nearest items the index of a serving process finds, and what it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.world.index import ContentIndex

K: Final = 1_000
BEST: Final = 100


class IndexFigures(NamedTuple):
    """`recall_at_1000`: share of the exact `K` that a search for `K` gives; `recall_of_top_100`: of the exact
    `BEST`. Items with the very similarity of the last exact one count as exact ones."""

    recall_at_1000: float
    recall_of_top_100: float
    bytes_per_item: float
    build_s_per_million: float
    """CPU."""


def figures_of(index: ContentIndex, queries: Sequence[NDArray[np.float32]]) -> IndexFigures:
    """Of the content index, for the (DIM,) queries."""
    found = [_recalls(index, query) for query in queries if query.any()]
    at, of = np.mean(found, axis=0) if found else (1.0, 1.0)
    began = time.process_time()
    built = ContentIndex(index.items, index.exact, index.retrieval)
    built.refresh()
    took, n = time.process_time() - began, max(len(built), 1)
    return IndexFigures(
        round(float(at), 5),
        round(float(of), 5),
        round(built.memory / n, 1),
        round(took * 1e6 / n, 3),
    )


def _recalls(index: ContentIndex, query: NDArray[np.float32]) -> tuple[float, float]:
    items = index.items
    size = items.size
    similarity = index.vectors[:size].astype(np.float64) @ query.astype(np.float64)
    similarity[~items.leads[:size]] = 0
    found = similarity[index.search(query, K).slots]
    return _share(similarity, found, K), _share(similarity, found, BEST)


def _share(similarity: NDArray[np.float64], found: NDArray[np.float64], k: int) -> float:
    """Of the `k` items with the largest positive similarity."""
    positive = similarity[similarity > 0]
    wanted = min(k, len(positive))
    if not wanted:
        return 1.0
    least = np.partition(positive, len(positive) - wanted)[len(positive) - wanted]
    return min(int((found >= least).sum()), wanted) / wanted
