"""Recent popularity as a rival: the window by which the history's own last choices are found best."""

from __future__ import annotations

from typing import Final

import numpy as np

from infra.apps.evaluate.protocols.plan import sample
from infra.apps.replay.recipe import SLATE_SIZE
from infra.datasets.acts import Acts
from models.aggregates.popularity import GAIN, HALF_LIVES
from models.arrays import F64, I64

LAST_SHARE: Final = 0.1
"""Share of the history's choices, the last ones, by which the window is chosen."""
MAX_CHOICES: Final = 1_000
LONGEST: Final = tuple(HALF_LIVES)[-1]


def window(history: Acts, seed: int = 0) -> str:
    """One of `HALF_LIVES`: the one by which most of the last choices are among the ten most popular items
    just before; of equal ones the longest. `history` is in order of time."""
    choices = np.flatnonzero(history.target)
    late = choices[int((1 - LAST_SHARE) * len(choices)) :]
    asked = sample(late, MAX_CHOICES, seed)
    if not len(asked):
        return LONGEST
    found = {name: hits(history, asked, seconds) for name, seconds in HALF_LIVES.items()}
    return max(reversed(found), key=lambda name: found[name])


def hits(acts: Acts, asked: I64, half_life: float) -> float:
    """The mean chance that the item of each act `asked` is among the first ten by the decayed popularity of
    what came before; ties in a random order. `half_life` in s."""
    sums: F64 = np.zeros(len(acts.item_ids))
    seconds, weight = acts.time / 1000, GAIN[acts.action]
    begin, moment, total = 0, float(seconds[0]), 0.0
    for at in asked.tolist():
        # like the product's tables: what happened before the second of the choice
        end = int(np.searchsorted(acts.time, acts.time[at] // 1000 * 1000))
        if end > begin:
            newest = float(seconds[end - 1])
            sums *= 0.5 ** ((newest - moment) / half_life)
            terms = weight[begin:end] * 0.5 ** ((newest - seconds[begin:end]) / half_life)
            np.add.at(sums, acts.item[begin:end], terms)
            begin, moment = end, newest
        own = sums[acts.item[at]]
        above, level = int((sums > own).sum()), int((sums == own).sum())
        total += min(1.0, max(0.0, (SLATE_SIZE - above) / level))
    return total / len(asked)
