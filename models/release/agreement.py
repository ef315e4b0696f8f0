"""Whether the kernel's trees rank as ONNX Runtime does, which is the judge of every ranker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from models.release.onnx_trees import F32
from models.release.trees import Trees

TOLERANCE: Final = 1e-6
"""Between two scores; of a score above 1, its share."""
MAX_ROWS: Final = 4_096
_RANDOM_ROWS: Final = 256


def probes(trees: Trees, seed: int = 0) -> F32:
    """(n, width) rows about the thresholds, n at most `MAX_ROWS`: in each column every threshold of it and
    the next number on both sides, 0 and numbers between them, shuffled."""
    random, inner = np.random.default_rng(seed), trees.nodes.column >= 0
    pools = [
        _about(trees.nodes.value[inner & (trees.nodes.column == column)], random)
        for column in range(trees.width)
    ]
    n = min(max(map(len, pools), default=0), MAX_ROWS)
    rows = np.empty((n, trees.width), np.float32)
    for column, pool in enumerate(pools):
        rows[:, column] = np.resize(random.permutation(pool), n)
    return rows


def _about(thresholds: F32, random: np.random.Generator) -> F32:
    cuts = np.unique(thresholds[np.isfinite(thresholds)])
    infinity = np.float32(np.inf)
    beside = np.nextafter(cuts, -infinity), np.nextafter(cuts, infinity)
    low, high = (cuts.min(), cuts.max()) if len(cuts) else (np.float32(-1), np.float32(1))
    between = low + (high - low) * random.uniform(-0.1, 1.1, _RANDOM_ROWS)
    with np.errstate(over="ignore"):
        pool: F32 = np.concatenate([cuts, *beside, np.zeros(1), between]).astype(np.float32)
    return pool[np.isfinite(pool)]


def disagreement(trees: Trees, rank: Callable[[F32], F32], rows: F32) -> str:
    """Where `trees` and `rank` give different scores for `rows`, or another order; "" where they agree."""
    scores, judged = (of(rows).astype(np.float64) for of in (trees.predict, rank))
    if not len(rows):
        return ""
    allowed = TOLERANCE * np.maximum(1, np.abs(judged))
    # a row whose score is not finite must have the very same
    with np.errstate(invalid="ignore"):
        far = ~((np.abs(scores - judged) <= allowed) | (scores == judged))
    far &= ~(np.isnan(scores) & np.isnan(judged))
    if far.any():
        return f"{far.sum():,} of {len(rows):,} rows score otherwise than by ONNX Runtime"
    order = np.argsort(-judged, kind="stable")
    with np.errstate(invalid="ignore"):
        rises = np.diff(scores[order]) > allowed[order][1:]
    return f"{rises.sum():,} of {len(rows):,} rows rank otherwise" if rises.any() else ""
