"""Forward decay: sums whose terms fade without an update.

A term of weight w at time t adds w * 2^((t - L) / h) against a landmark L; a reader at time `now`
multiplies by 2^((L - now) / h). (Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009.)
Order-free up to rounding, so tables of partitions add up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.arrays import F64

MAX_HALF_LIVES: Final = 500
"""Half-lives from landmark to newest term before the landmark moves; terms a thousand older are 0."""

Times = float | F64


class Landmark:
    """The landmark of one table: `half_life` and times in seconds."""

    def __init__(self, half_life: float, at: float = 0.0) -> None:
        self.half_life, self.at = half_life, at

    def moves(self, newest: Times) -> Any:
        """Whether a term of time `newest` (s), or of each of these, moves the landmark."""
        return (newest - self.at) / self.half_life > MAX_HALF_LIVES

    def move(self, newest: float) -> float:
        """Moves to `newest` if that is beyond `MAX_HALF_LIVES`. The factor for the table's sums."""
        if not self.moves(newest):
            return 1.0
        factor = float(np.exp2((self.at - newest) / self.half_life)) if self.at else 0.0
        self.at = newest
        return factor

    def terms(self, weight: F64, time: F64) -> F64:
        """(n,) the term of each weight at its time (s). Underflow is 0."""
        terms: F64 = weight * np.exp2((time - self.at) / self.half_life)
        return terms

    def now(self, sums: F64, now: float) -> F64:
        """The sums as of `now` (s)."""
        current: F64 = sums * np.exp2((self.at - now) / self.half_life)
        return current
