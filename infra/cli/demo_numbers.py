"""Sums of the demo's figures."""

from __future__ import annotations

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
    """To four places; 0 of nothing."""
    return round(sum(values) / len(values), 4) if values else 0.0
