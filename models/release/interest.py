"""The actions that express a person's interest, and their weights: the same in flow, serving, training."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features.ring import BACK, recent
from schemas.actions import WEIGHT, by_byte

LATEST_ACTIONS: Final = 20
"""How many of a person's actions, the newest, express their interest."""
VECTOR_FADE: Final = 0.8
"""Weight of an action over that of the next newer one, in a person's vector."""
MAX_FADES: Final = 64
"""Tables of weights kept: more than the releases that serve at one time."""
# Whole 1024ths. With coordinates on `content`'s grid every sum of LAST + 1 products is a multiple of
# 2^-21 below 8, which float32 holds, and its squares add up in float64: no order of summing matters.
VECTOR_FADING: Final = np.rint(np.power(VECTOR_FADE, np.arange(LATEST_ACTIONS + 1)) * 1024) / 1024
POSITIVE: Final = by_byte(WEIGHT > 0)
"""By code of an action: it expresses interest in the item."""


@lru_cache(maxsize=MAX_FADES)
def fading(fade: float) -> NDArray[np.float64]:
    """(LATEST_ACTIONS + 1,) weights of an interest's entries in co-visitation, newest first: ``fade ^ rank``.

    >>> fading(0.5)[:3]
    array([1.  , 0.5 , 0.25])
    """
    weights = np.power(fade, np.arange(LATEST_ACTIONS + 1), dtype=np.float64)
    weights.flags.writeable = False
    return weights


def items(row: np.void) -> NDArray[np.uint64]:
    """Item hashes of the last `LATEST_ACTIONS` actions: the positive ones that were not taken back, newest
    first, with repeats."""
    acts = recent(row, LATEST_ACTIONS)
    speaks = POSITIVE[acts["action"]] & (acts["flags"] & BACK == 0)
    spoken: NDArray[np.uint64] = acts["item"][speaks].astype(np.uint64)
    return spoken
