"""The events and reads of the replay, planned as a function of the data and a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from infra.datasets.movielens import MIN_LIKE_RATING, Rating

HISTORY_SHARE: Final = 0.8
"""Share of the ratings, by time, that is history."""
MAX_TARGETS: Final = 2_000
MAX_PROBES: Final = 1_000
SEED: Final = 20_26


class ScheduledEvent(NamedTuple):
    """One event of the replay. `scored`: a read just before it shows whether the film is recommended.
    `probed`: a read just after it waits until it is included, which measures freshness."""

    at: int
    rating: Rating
    scored: bool
    probed: bool


class Schedule(NamedTuple):
    """`history` is imported, `steps` are replayed; both in order of (time, user, item)."""

    history: tuple[Rating, ...]
    steps: tuple[ScheduledEvent, ...]

    @property
    def scored(self) -> list[ScheduledEvent]:
        return [step for step in self.steps if step.scored]


def schedule(
    ratings: Sequence[Rating],
    *,
    sample: int = MAX_TARGETS,
    probes: int = MAX_PROBES,
    limit: int | None = None,
    seed: int = SEED,
) -> Schedule:
    """Splits at `HISTORY_SHARE` and draws the targets: `sample` of the ratings of 4 and above (all of
    them if they are fewer), and `probes` of all. `limit`: takes only so many ratings, the latest."""
    taken = tuple(ratings[-limit:]) if limit else tuple(ratings)
    split = int(len(taken) * HISTORY_SHARE)
    history, rest = taken[:split], taken[split:]
    chance = random.Random(seed)
    liked = [at for at, rating in enumerate(rest) if rating.rating >= MIN_LIKE_RATING]
    scored = set(chance.sample(liked, min(sample, len(liked))))
    probed = set(chance.sample(range(len(rest)), min(probes, len(rest))))
    steps = (ScheduledEvent(at, it, at in scored, at in probed) for at, it in enumerate(rest))
    return Schedule(history, tuple(steps))
