"""Prequential: the acts after a point in time are replayed; each choice is ranked for, then learnt.

Dawid 1984, "Present position and potential developments: the prequential approach".
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from infra.apps.evaluate.protocols.plan import (
    SPLIT,
    SPLIT_OF_BASKETS,
    CannotEvaluate,
    EvaluationPlan,
    Options,
    by_time,
    check,
    had_before,
    sample,
    taken,
)
from infra.datasets.acts import Acts
from models.arrays import I64

MAX_BASKET_LINES: Final = 12_000
"""Lines of baskets that are replayed after the split."""
_NONE: Final[I64] = np.empty(0, np.int64)


def plan(acts: Acts, options: Options) -> EvaluationPlan:
    """Errors: `CannotEvaluate` where nothing lies before the split, or nothing to find after it."""
    check(acts)
    acts = by_time(acts)
    split = split_time(acts, options.split)
    begin = int(np.searchsorted(acts.time, split))
    if baskets(acts):
        acts = taken(acts, np.arange(min(len(acts.time), begin + MAX_BASKET_LINES)))
    later = np.arange(len(acts.time)) >= begin
    wanted, again = acts.target & later, had_before(acts)
    excluded = Counter({"not a choice": int((later & ~acts.target).sum())})
    if options.seen == "masked":
        excluded["had before"] = int((wanted & again).sum())
        wanted &= ~again
    every = np.flatnonzero(wanted)
    if not len(every):
        raise CannotEvaluate(
            f"none of the {later.sum():,} acts after the split is a choice that can be found",
            remedy="take an earlier --split, or --seen kept",
        )
    targets = sample(every, options.targets, options.seed)
    excluded["not drawn"] = len(every) - len(targets)
    history = taken(acts, np.arange(begin))
    return EvaluationPlan(
        "prequential", acts, history, targets, acts.time[targets], split, excluded, _NONE, _NONE
    )


def baskets(acts: Acts) -> bool:
    """Whether the set is one of baskets: most acts are lines of one."""
    return bool(len(acts.basket)) and bool((acts.basket >= 0).mean() > 0.5)


def split_time(acts: Acts, share: float | None) -> int:
    """ms: of the first act, or basket, after `share` of them; `acts` are in order of time.

    Errors: `CannotEvaluate`.
    """
    whole = baskets(acts)
    share = share if share is not None else SPLIT_OF_BASKETS if whole else SPLIT
    if not 0 < share < 1:
        raise CannotEvaluate(
            f"a split at {share:g} leaves nothing before or after it",
            remedy="take one between 0 and 1",
        )
    starts = acts.time
    if whole:
        lines = np.flatnonzero(acts.basket >= 0)
        starts = starts[lines[np.unique(acts.basket[lines], return_index=True)[1]]]
        starts = np.sort(starts)
    first = min(int(share * len(starts)), len(starts) - 1)
    if not first:
        raise CannotEvaluate(
            f"a split at {share:g} of {len(starts):,} leaves nothing before it",
            remedy="take a later --split, or a larger set",
        )
    split = int(starts[first])
    if split <= int(acts.time[0]):
        raise CannotEvaluate(
            "the acts before the split carry the same time as those after it, so that there is no history",
            remedy="take --protocol leave-one-out, or a set whose acts differ in time",
        )
    return split
