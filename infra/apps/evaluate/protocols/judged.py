"""Judged lists: the films that a person rated in the last part are ranked among themselves.

A random order already reaches an NDCG of .64 there (likes among likes), so its row belongs beside every
figure.
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
    sample,
    taken,
)
from infra.apps.evaluate.protocols.prequential import split_time
from infra.datasets.acts import Acts

MIN_JUDGED: Final = 20
"""Ratings in the last part of a person whose list is ranked."""
LIST_SIZE: Final = 24
"""At most so many of them are drawn into the list."""


def plan(acts: Acts, options: Options) -> EvaluationPlan:
    """Errors: `CannotEvaluate` where nobody rated enough after the split, or the set has no ratings."""
    check(acts)
    acts = by_time(acts)
    if np.isnan(acts.rated).all():
        raise CannotEvaluate(
            "judged lists take ratings, and this set has none", remedy="take --protocol prequential"
        )
    split = split_time(acts, options.split)
    begin = int(np.searchsorted(acts.time, split))
    usable = (np.arange(len(acts.time)) >= begin) & ~np.isnan(acts.rated) & ~had_before(acts)
    counts = np.bincount(acts.person[usable], minlength=len(acts.people))
    enough = np.flatnonzero(counts >= MIN_JUDGED)
    if not len(enough):
        raise CannotEvaluate(
            f"nobody rated {MIN_JUDGED} items after the split, which judged lists take",
            remedy="take an earlier --split, or --protocol prequential",
        )
    few = int(((counts > 0) & (counts < MIN_JUDGED)).sum())
    excluded = Counter({"people with too few ratings": few})
    drawn = sample(enough, options.targets, options.seed)
    excluded["not drawn"] = len(enough) - len(drawn)
    chance = np.random.default_rng(options.seed)
    lists = []
    for person in drawn.tolist():
        own = np.flatnonzero(usable & (acts.person == person))
        lists.append(np.sort(chance.choice(own, min(LIST_SIZE, len(own)), replace=False)))
    # a list is made for a person before any of it was rated: at their first act after the split
    starts = [int(np.flatnonzero((acts.person == it) & (acts.time >= split))[0]) for it in drawn]
    order = np.argsort(starts, kind="stable")
    targets = np.array(starts, np.int64)[order]
    judged = np.concatenate([lists[n] for n in order])
    size = np.array([len(lists[n]) for n in order], np.int64)
    history = taken(acts, np.arange(begin))
    return EvaluationPlan(
        "judged", acts, history, targets, acts.time[targets], split, excluded, judged, size
    )
