"""Popularity: decayed sums of people's actions by item, one column a half-life."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.decay import Landmark, Times
from models.arrays import F64, I64, Mask
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

    def move(self, newest: float) -> F64 | None:
        """Moves the landmarks where a fact of time `newest` (s) needs it. The factor of each column for sums
        that others keep against them; None where none moved."""
        factors = np.array([landmark.move(newest) for landmark in self.landmarks])
        if (factors == 1.0).all():
            return None
        self.sums *= factors
        return factors

    def moves(self, time: Times) -> Any:
        """Whether a fact of time `time` (s), or of each of these, moves a landmark."""
        moved = [landmark.moves(time) for landmark in self.landmarks]
        return np.logical_or.reduce(moved)

    def terms(self, facts: Actions) -> F64:
        """(n, windows) what each fact adds; one that takes back subtracts as much."""
        return self.terms_of(facts.action, facts.time, facts.flags & BACK != 0)

    def terms_of(self, action: NDArray[np.uint8], time: NDArray[np.uint32], back: Mask) -> F64:
        """(n, windows) `terms` of actions, those of `back` taken back."""
        at, gain = time.astype(np.float64), np.where(back, -GAIN[action], GAIN[action])
        return np.stack([mark.terms(gain, at) for mark in self.landmarks], axis=1)

    def add(self, number: I64, terms: F64, numbers: int) -> None:
        """Adds terms to the rows of `number` (n,), one after the other; `numbers`: how many rows exist now.

        A row's terms are added to it in their order, so the sums are the same however these calls are cut.
        """
        if numbers > len(self.sums):
            grown = np.zeros((max(numbers, 2 * len(self.sums)), len(WINDOWS)))
            grown[: len(self.sums)] = self.sums
            self.sums = grown
        if not len(number):
            return
        named, which = np.unique(number, return_inverse=True)
        rows = self.sums[named]
        place = np.concatenate([np.arange(len(named)), which])
        for column, term in zip(rows.T, terms.T, strict=True):
            column[:] = np.bincount(place, np.concatenate([column, term]), len(named))
        self.sums[named] = rows
