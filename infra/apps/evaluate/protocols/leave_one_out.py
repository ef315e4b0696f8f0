"""Leave-one-out: the last choice of each person is found from everything else, as papers do it.

People's last choices are asked for a week after all else, so the tables hold later acts of others than a
system would have known: figures of this protocol compare models, and say nothing about a running system.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from infra.apps.evaluate.protocols.plan import (
    CannotEvaluate,
    EvaluationPlan,
    Options,
    by_time,
    check,
    had_before,
    joined,
    sample,
    taken,
)
from infra.datasets.acts import Acts
from models.arrays import I64
from schemas.times import DAY_MS

WAIT_MS: Final = 7 * DAY_MS
"""From the last act of the history to the last choices."""
_NONE: Final[I64] = np.empty(0, np.int64)


def plan(acts: Acts, options: Options) -> EvaluationPlan:
    """Errors: `CannotEvaluate` where nobody has a choice and an act before it."""
    check(acts)
    if options.split is not None:
        raise CannotEvaluate(
            "--split fits no leave-one-out, which holds out the last choice of each person",
            remedy="leave it out, or take --protocol prequential",
        )
    acts = by_time(acts)
    last = _last_choices(acts)
    held_out = np.zeros(len(acts.time), np.bool_)
    held_out[last] = True
    last_of = np.full(len(acts.people), len(acts.time))
    last_of[acts.person[last]] = last
    places = np.arange(len(acts.time))
    before, again = places < last_of[acts.person], had_before(acts)
    acts_before = np.bincount(acts.person[before], minlength=len(acts.people))
    alone = acts_before[acts.person] == 0
    excluded = Counter({"no act before it": int((held_out & alone).sum())})
    wanted = held_out & ~alone
    if options.seen == "masked":
        excluded["had before"] = int((wanted & again).sum())
        wanted &= ~again
    if not wanted.any() or not before.any():
        raise CannotEvaluate(
            "nobody has a last choice with an act before it, which leave-one-out takes",
            remedy="take --protocol prequential, or a set in which people come back",
        )
    history = taken(acts, before)
    now = int(history.time.max()) + WAIT_MS
    every = np.flatnonzero(wanted)
    drawn = sample(every, options.targets, options.seed)
    excluded["not drawn"] = len(every) - len(drawn)
    # the log ends with the choices that are asked for: all else is history
    asked = taken(acts, drawn)._replace(time=np.full(len(drawn), now))
    log = joined(history, asked)
    targets = np.arange(len(history.time), len(log.time))
    return EvaluationPlan(
        "leave-one-out", log, history, targets, log.time[targets], now, excluded, _NONE, _NONE
    )


def _last_choices(acts: Acts) -> I64:
    """Places of each person's last act that is a choice."""
    choices = np.flatnonzero(acts.target)[::-1]
    return choices[np.unique(acts.person[choices], return_index=True)[1]]
