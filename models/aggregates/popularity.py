"""Popularity: decayed sums of people's actions, by item or by category, one column a half-life."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.decay import Landmark
from schemas.actions import WEIGHT
from schemas.state.facts import BACK, Actions
from schemas.state.tables import WINDOWS

HOUR: Final = 3600.0
HALF_LIVES: Final = dict(
    zip(WINDOWS, (HOUR, 24 * HOUR, 7 * 24 * HOUR, 90 * 24 * HOUR), strict=True)
)
"""Seconds, in the order of `schemas.state.tables.WINDOWS`."""
GAIN: Final = np.maximum(WEIGHT, 0)
"""The weight of an action in the sums: a dislike counts 0, not less."""


class Popularity:
    """Sums by dense number (0, 1, ...): an array (n, windows)."""

    def __init__(self) -> None:
        self.sums = np.zeros((0, len(WINDOWS)))
        self.landmarks = [Landmark(h) for h in HALF_LIVES.values()]

    def add(self, number: NDArray[np.int64], facts: Actions, numbers: int) -> bool:
        """Adds facts, `number` (n,) of each; `numbers`: how many exist now. True if a landmark moved."""
        if numbers > len(self.sums):
            grown = np.zeros((max(numbers, 2 * len(self.sums)), len(WINDOWS)))
            grown[: len(self.sums)] = self.sums
            self.sums = grown
        time, gain = facts.time.astype(np.float64), GAIN[facts.action]
        gain = np.where(facts.flags & BACK, -gain, gain)
        moved = False
        for column, landmark in enumerate(self.landmarks):
            factor = landmark.move(float(time.max()))
            if factor != 1.0:
                self.sums[:, column] *= factor
                moved = True
            self.sums[:, column] += np.bincount(
                number, landmark.terms(gain, time), minlength=len(self.sums)
            )
        return moved
