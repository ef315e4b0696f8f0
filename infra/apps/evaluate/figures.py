"""The figures of each arm: accuracy with intervals by person, what was shown, and paired ratios."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import numpy as np

from infra.apps.evaluate.answers import Answers
from infra.apps.evaluate.ground import Ground, slates
from infra.apps.replay.recipe import SLATE_SIZE
from models.arrays import F64, I64, Mask
from models.evaluation import debiased
from models.evaluation.choices import Scored, among_negatives, expected, gained
from models.evaluation.intervals import IntervalEstimate, Resamples
from models.evaluation.slates import calibration, coverage, diversity, novelty, popularity_bias

ACCURACY: Final = ("hr", "ndcg", "recall", "precision", "mrr")
WITH_INTERVALS: Final = ("hr", "ndcg")
DIGITS: Final = 6
Figures = dict[str, Any]


class Paired:
    """The arms of one evaluation, each resampled with the same people. `keep` (G,): of a slice."""

    def __init__(
        self, ground: Ground, answers: Mapping[str, Answers], seed: int, keep: Mask | None = None
    ) -> None:
        self.n = len(ground.chosen) if keep is None else int(keep.sum())
        inside = slice(None) if keep is None else keep
        weight = debiased.weights(ground.chosen, ground.acts)
        columns: dict[str, F64] = {"weight": weight[inside]}
        for name, of in answers.items():
            for metric in WITH_INTERVALS:
                gain = gained(metric, of.rank)
                columns[f"{metric} {name}"] = gain[inside]
                if keep is None:
                    columns[f"{metric} {name} weighted"] = gain * weight
        self._sums = Resamples(ground.person[inside], columns, seed)
        self.people = self._sums.people

    def mean(self, metric: str, arm: str) -> IntervalEstimate:
        return self._sums.mean(f"{metric} {arm}")

    def debiased(self, metric: str, arm: str) -> IntervalEstimate:
        return self._sums.ratio(f"{metric} {arm} weighted", "weight")

    def ratio(self, arm: str, other: str, metric: str = "ndcg") -> IntervalEstimate:
        return self._sums.ratio(f"{metric} {arm}", f"{metric} {other}")


def of_arm(name: str, answers: Answers, ground: Ground, paired: Paired) -> Figures:
    """All figures of one arm."""
    return (
        {metric: rounded(float(gained(metric, answers.rank).mean())) for metric in ACCURACY}
        | interval_figures(paired, name)
        | of_slates(answers, ground)
        | of_equals(answers)
    )


def interval_figures(paired: Paired, name: str) -> Figures:
    """The intervals of HR and NDCG, and both weighed against popularity, with theirs."""
    found: Figures = {}
    for metric in WITH_INTERVALS:
        found |= with_interval(metric, paired.mean(metric, name), value=False)
        found |= with_interval(f"{metric}_debiased", paired.debiased(metric, name))
    return found


def of_slates(answers: Answers, ground: Ground) -> Figures:
    """What the arm showed, whether or not it was chosen."""
    shown = slates(answers)
    return {
        "coverage": rounded(coverage(shown, len(ground.category))),
        "diversity_category": rounded(diversity(shown, ground.category).mean),
        "diversity_owner": rounded(diversity(shown, ground.owner).mean)
        if (ground.owner >= 0).any()
        else None,
        "novelty": rounded(novelty(shown, ground.people, ground.audience).mean),
        "popularity_bias": rounded(popularity_bias(shown, ground.chosen, ground.acts)),
        "calibration": rounded(
            calibration(shown, ground.category, ground.before, ground.item).mean
        ),
    }


def of_equals(answers: Answers) -> Figures:
    """HR and NDCG without the caps, with equal scores at their expectation, at their worst and at their best,
    and among 100 others. Empty where the order of all items was not kept."""
    full = answers.full
    if not full[:, 3].any():
        return {}
    scored, others = Scored(full[:, 1], full[:, 2]), np.maximum(full[:, 3] - 1, 0)
    found: Figures = {}
    for metric in WITH_INTERVALS:
        worst, best = (
            gained(metric, ranks).mean() for ranks in (scored.pessimistic, scored.optimistic)
        )
        found[f"{metric}_uncapped"] = rounded(float(expected(metric, scored).mean()))
        found[f"{metric}_ties"] = [rounded(float(worst)), rounded(float(best))]
        found[f"{metric}_100neg"] = rounded(float(among_negatives(metric, scored, others).mean()))
    return found


def of_random(eligible: I64) -> Figures:
    """In expectation over random orders of the items, `eligible` (G,) at each choice."""
    items = np.maximum(eligible, 1)
    scored = Scored(np.zeros(len(items), np.int64), items - 1)
    found: Figures = {
        metric: rounded(float(expected(metric, scored).mean())) for metric in ACCURACY
    }
    for metric in WITH_INTERVALS:
        found[f"{metric}_100neg"] = rounded(
            float(among_negatives(metric, scored, items - 1).mean())
        )
    shown = min(1.0, float(1 - (1 - SLATE_SIZE / items.mean()) ** len(items)))
    return found | {"coverage": rounded(shown)}


def with_interval(name: str, estimate: IntervalEstimate, *, value: bool = True) -> Figures:
    """`name`, `name`_lo and `name`_hi; an end that there is not is None."""
    found = {
        f"{name}_lo": rounded(estimate.lower),
        f"{name}_hi": rounded(estimate.upper),
    }
    return ({name: rounded(estimate.value)} if value else {}) | found


def as_ratio(estimate: IntervalEstimate) -> Figures:
    return with_interval("ratio", estimate)


def rounded(value: float | None) -> float | None:
    """As JSON has it, which knows no NaN: None."""
    return None if value is None or not isfinite(value) else round(float(value), DIGITS)
