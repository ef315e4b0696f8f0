"""Affinity of a person to each category: the decayed weights of the actions in the ring. Commutative.

It is computed from the ring, so it needs no state of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features.ring import BACK, recent
from schemas.actions import WEIGHT
from schemas.times import DAY_MS

HALF_LIFE_MS: Final = 30 * DAY_MS


def affinity(
    row: np.void,
    now: int,
    half_life: int = HALF_LIFE_MS,
    categories_of: Callable[[NDArray[np.uint64]], NDArray[np.uint32]] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Category hashes (ascending) and their sums of w * 2^(-age / half-life), age = now - t, at
    least 0. Times in ms. Without category 0 (none), and without what was taken back. `categories_of`: the
    present categories of items, for the entries without one, whose items came after their actions."""
    entries = recent(row)
    missing = entries["category"] == 0
    if categories_of is not None and missing.any():
        entries = entries.copy()
        entries["category"][missing] = categories_of(entries["item"][missing])
    entries = entries[(entries["category"] != 0) & (entries["flags"] & BACK == 0)]
    time = entries["time"].astype(np.int64) * 1000 + entries["ms"]
    # in float32: the last bit of a power depends on the library, and sums of both signs may cancel all others
    decay = np.exp2(-np.maximum(now - time, 0) / half_life).astype(np.float32)
    weight = WEIGHT[entries["action"]] * decay.astype(np.float64)
    categories, which = np.unique(entries["category"], return_inverse=True)
    sums = np.bincount(which, weight, minlength=len(categories)).astype(np.float64)
    return categories, sums
