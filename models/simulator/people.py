"""Simulated people: they come with an intent, scan a slate, click and buy, tire and drift.

Utility of item j for person u in a session of intent z:

    x_uj = a <p_u, q_j> + gamma <z, q_j> + beta b_j - c - 0.5 min(shown_uj, 5) - 6 [clicked before]

A slot k = 1, 2, ... is examined with probability e_k = k^-0.7, an examined item is clicked with
probability sigmoid(x), a clicked one is bought with probability sigmoid(x - 3.5), all independently
(position-based model, Richardson et al. 2007). So the true click rate of a slate has a closed form,
`expected_ctr`, and so has the truth about any comparison of slates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.arrays import F64
from models.simulator.truth import TASTE_DIM, Items, Tastes, normalised

TASTE: Final = 2.6
INTENT: Final = 1.6
PULL: Final = 0.45
COST: Final = 2.65
FATIGUE: Final = 0.5
MAX_FATIGUE_SHOWINGS: Final = 5.0
CLICKED_PENALTY: Final = 6.0
PURCHASE_THRESHOLD: Final = 3.5
INTENT_TASTE: Final = 4.0
INTENT_PULL: Final = 0.5
MEMORY_PER_DAY: Final = 0.6
"""Share of the memory of impressions that remains after a day."""
TASTE_PER_DAY: Final = 0.97
"""Share of a person's taste that remains after a day."""
LAST_SLATE_CHANCE: Final = 0.25
"""Chance that a slate is the last one of its session, but for the first."""
ACTIVITY: Final = 1.2
"""Exponent of the Pareto law of sessions a day: few people make most of them."""
MAX_SESSIONS_PER_DAY: Final = 20.0
"""Bound of the draw, before the mean is scaled to 1."""
EXAMINED: Final[F64] = np.arange(1, 101, dtype=np.float64) ** -0.7
"""e_k at k - 1."""


class Look(NamedTuple):
    """A person's reaction to a slate of k items, each (k,). Clicked items were examined, bought ones were
    clicked. `expected`: the true probability of each click, before the draw."""

    examined: NDArray[np.bool_]
    clicked: NDArray[np.bool_]
    bought: NDArray[np.bool_]
    expected: F64


class People:
    """`count` people over `items`; each has a generator of their own, so that a person's actions depend on
    their own slates alone. Time is in days."""

    def __init__(self, items: Items, tastes: Tastes, count: int, rng: Generator) -> None:
        self.items = items
        self.p = tastes.draw(count, rng)
        drawn = np.minimum(1 + rng.pareto(ACTIVITY, count), MAX_SESSIONS_PER_DAY)
        self.activity: F64 = drawn / drawn.mean()
        """(count,) sessions a day, mean 1."""
        self._rng = rng.spawn(count)
        self._shown = np.zeros((count, len(items.b)), np.float32)
        self._clicked = np.zeros((count, len(items.b)), np.bool_)
        self._at = np.zeros(count)
        self._z = np.zeros((count, TASTE_DIM))

    def picks(self, person: int, count: int, session_size: int = 5) -> list[list[int]]:
        """Items that the person finds without slates: sessions of distinct items, each of one intent, drawn
        by exp(utility) (Plackett-Luce). They count as clicked from then on."""
        sessions = []
        while count > 0:
            self.start(person, self._at[person])
            utility = self.utility(person, np.arange(len(self.items.b)))
            keys = utility + self._rng[person].gumbel(size=len(utility))
            keys[self._clicked[person]] = -np.inf
            chosen = np.argsort(-keys)[: min(session_size, count)].tolist()
            self._clicked[person, chosen] = True
            sessions.append(chosen)
            count -= session_size
        return sessions

    def start(self, person: int, day: float) -> int:
        """Starts a session at `day` (never earlier than the one before): updates taste and memory, and draws
        an intent. The number of slates in the session: 1 + Geometric."""
        passed, rng = max(0.0, day - self._at[person]), self._rng[person]
        if passed:
            kept = TASTE_PER_DAY**passed
            noise = rng.standard_normal(TASTE_DIM) * np.sqrt((1 - kept * kept) / TASTE_DIM)
            self.p[person] = normalised(kept * self.p[person] + noise)
            self._shown[person] *= MEMORY_PER_DAY**passed
            self._at[person] = day
        liking = INTENT_TASTE * (self.items.q @ self.p[person]) + INTENT_PULL * self.items.b
        chosen = int(np.argmax(liking + rng.gumbel(size=len(liking))))  # softmax
        self._z[person] = self.items.q[chosen]
        return 1 + int(rng.geometric(LAST_SLATE_CHANCE))

    def utility(self, person: int, slots: Sequence[int] | NDArray[np.int64]) -> F64:
        """(k,) x_uj of the items at `slots`."""
        q, b = self.items.q[slots], self.items.b[slots]
        tired = FATIGUE * np.minimum(self._shown[person, slots], MAX_FATIGUE_SHOWINGS)
        liking = TASTE * (q @ self.p[person]) + INTENT * (q @ self._z[person]) + PULL * b - COST
        return np.asarray(
            liking - tired - CLICKED_PENALTY * self._clicked[person, slots], np.float64
        )

    def look(self, person: int, slots: Sequence[int]) -> Look:
        """Draws the person's reaction to a slate, and adds it to their memory of impressions and clicks."""
        if not len(slots):
            none = np.zeros(0, np.bool_)
            return Look(none, none, none, np.zeros(0))
        utility, rng = self.utility(person, slots), self._rng[person]
        examine, click, buy = rng.random((3, len(slots)))
        examined = examine < EXAMINED[: len(slots)]
        clicked = examined & (click < sigmoid(utility))
        bought = clicked & (buy < sigmoid(utility - PURCHASE_THRESHOLD))
        self._shown[person, slots] += 1
        self._clicked[person, np.asarray(slots)[clicked]] = True
        return Look(examined, clicked, bought, EXAMINED[: len(slots)] * sigmoid(utility))


def expected_ctr(utility: F64) -> float:
    """The true click rate of a slate whose items have these utilities: mean_k e_k sigmoid(x_k).

    >>> round(expected_ctr(np.zeros(1)), 3)
    0.5
    """
    return float((EXAMINED[: len(utility)] * sigmoid(utility)).mean()) if len(utility) else 0.0


def sigmoid(x: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-x)), np.float64)
