"""Statistics of the demo's figures."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence

import numpy as np


def percentiles(values: Sequence[float], *which: int) -> dict[str, float]:
    """
    >>> percentiles([1.0, 2.0, 3.0], 50)
    {'p50': 2.0}
    """
    found = np.percentile(values, which).tolist() if values else [math.nan for _ in which]
    return {f"p{p}": round(value, 2) for p, value in zip(which, found, strict=True)}


def mean(values: Sequence[float]) -> float:
    """The mean to four places; 0 of no values."""
    return round(sum(values) / len(values), 4) if values else 0.0


def settle_heap() -> None:
    """Collects garbage and freezes the heap before a measurement. A full collection over a whole log stops
    the client for 200 ms, which would count as latency of the system."""
    gc.collect()
    gc.freeze()
