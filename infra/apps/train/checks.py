"""What a ranker must hold beside its ranking: the same scores when exported, speed, size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import numpy as np

from infra.apps.replay.scenes import FEATURES
from models.evaluation.gate import Condition
from models.evaluation.ranking import FeatureRows
from models.release import artefact
from models.release.release import MAX_RANKED
from models.training.ranker import Ranker

MAX_DIFFERENCE: Final = 1e-5
"""Between a score in Python and one by the exported model."""
MIN_ROWS_COMPARED: Final = 1_000
"""Rows on which the two models are compared, where there are so many."""
MAX_MS: Final = 25.0
"""For `MAX_RANKED` rows; a ranker takes about a tenth of it. It stops blunders, not a busy machine."""
REPEATS: Final = 21
MAX_BYTES: Final = 16 << 20
"""Of a ranker: every process that serves holds it."""


def check(trees: Ranker, model: bytes, rows: FeatureRows) -> tuple[Condition, ...]:
    """Parity, latency and size of `model`, the export of `trees`, on real `rows` (n, all `FEATURES`)."""
    columns = [FEATURES.index(name) for name in trees.features]
    every = max(1, len(rows) // (20 * MIN_ROWS_COMPARED))
    some = np.ascontiguousarray(rows[::every][:, columns])
    rank = artefact.ranker(model, len(trees.features))
    difference = float(np.abs(rank(some) - trees.predict(some)).max(initial=0.0))
    took = _median_ms(rank, some[:MAX_RANKED])
    return (
        Condition(
            "parity",
            difference <= MAX_DIFFERENCE,
            f"exported and trained ranker differ by {difference:.2g} at most on {len(some):,} rows,"
            f" {MAX_DIFFERENCE:g} is allowed",
        ),
        Condition(
            "latency",
            took <= MAX_MS,
            f"{MAX_RANKED} rows take {'less' if took <= MAX_MS else f'{took:.0f} ms, more'} than"
            f" {MAX_MS:g} ms",
        ),
        Condition(
            "size",
            len(model) <= MAX_BYTES,
            f"the ranker has {len(model) / 1e6:.2f} MB, {MAX_BYTES / 1e6:.0f} MB are allowed",
        ),
    )


def _median_ms(rank: Callable[[FeatureRows], object], rows: FeatureRows) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        rank(rows)
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times))
