"""Weights against popularity: a choice of what few people see says more of what people would choose.

What is popular is seen more, so it is chosen more than it is liked, and a plain mean rewards showing it. A
choice weighs 1 / propensity, with a propensity that grows as a power of the item's popularity; the weighted
mean is normalised by the sum of the weights. Yang et al. 2018, "Unbiased offline recommender evaluation for
missing-not-at-random implicit feedback"; the same weights give Steck's popularity-stratified recall: Steck
2011, "Item popularity and recommendation accuracy".
"""

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import F64, I64

GAMMA: Final = 0.5
"""The power: 0 weighs all choices alike, 1 all items."""
MIN_PROPENSITY: Final = 0.02
"""Propensities are clipped here, so that a choice weighs at most 50 times one of the most popular item."""


def weights(chosen: I64, count: I64, gamma: float = GAMMA, least: float = MIN_PROPENSITY) -> F64:
    """(G,) 1 / propensity of the choices, `chosen` (G,) of the items with `count` (I,) acts on history; >= 1.
    Propensity: (count / the largest count)^gamma, at least `least`; 1 for all where there is no history.

    >>> weights(np.array([0, 1, 2]), np.array([100, 25, 0])).tolist()
    [1.0, 2.0, 50.0]
    """
    most = int(count.max(initial=0))
    if not most:
        return np.ones(len(chosen))
    return 1 / np.maximum((count[chosen] / most) ** gamma, least)
