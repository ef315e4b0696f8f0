"""The actions that express a person's interest, and their weights: the same in flow, serving, training."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features.ring import BACK, recent
from schemas.actions import WEIGHT

LATEST_ACTIONS: Final = 20
"""How many of a person's actions, the newest, express their interest."""
FADE: Final = 0.75
"""Weight of an action over that of the next newer one, in co-visitation."""
VECTOR_FADE: Final = 0.8
"""The same weight in a person's vector."""
FADING: Final = np.power(FADE, np.arange(LATEST_ACTIONS + 1), dtype=np.float64)
# Whole 1024ths. With coordinates on `content`'s grid every sum of LAST + 1 products is a multiple of
# 2^-21 below 8, which float32 holds, and its squares add up in float64: no order of summing matters.
VECTOR_FADING: Final = np.rint(np.power(VECTOR_FADE, np.arange(LATEST_ACTIONS + 1)) * 1024) / 1024
POSITIVE: Final = WEIGHT > 0
"""By code of an action: it expresses interest in the item."""


def items(row: np.void) -> NDArray[np.uint64]:
    """Item hashes of the last `LATEST_ACTIONS` actions: the positive ones that were not taken back, newest
    first, with repeats."""
    acts = recent(row, LATEST_ACTIONS)
    speaks = POSITIVE[acts["action"]] & (acts["flags"] & BACK == 0)
    spoken: NDArray[np.uint64] = acts["item"][speaks].astype(np.uint64)
    return spoken
