"""The release's ranker: the rows it sees, and the order it makes of the best by the coarse score.

`feature_rows` alone makes rows, in serving and in training: a model ranks the same rows as it learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.release.release import MAX_RANKED
from serving.decide.case import Case
from serving.decide.columns import ALL_COLUMNS
from serving.decide.pool import Kept, Places, Pool
from serving.decide.results import FeatureRows, Ranked, Scored
from serving.world.catalogue import Floats

MAX_LOGIT: Final = 80.0
"""Predictions are clipped to it on both sides: the logistic function of it is still above 0 and below 1."""
_COLUMNS: Final = {column.name: column for column in ALL_COLUMNS}


def feature_rows(case: Case, pool: Pool, numbers: Places, features: Sequence[str]) -> FeatureRows:
    """(k, F): each candidate's value in each of `features`, in the order given; 0 where a column has none.

    Errors: KeyError where there is no such column.
    """
    rows = np.zeros((len(numbers), len(features)), np.float32)
    kept = Kept(numbers, pool.slots[numbers])
    for index, name in enumerate(features):
        value = _COLUMNS[name].value(case, pool, kept)
        if value is not None:
            rows[:, index] = value
    return rows


def rank(case: Case, pool: Pool, scored: Scored) -> Ranked:
    """The `MAX_RANKED` best candidates in the ranker's order, where it applies, and the others behind. Then
    the scores of items with recent impressions are discounted."""
    release, scores = case.world.release, scored.totals
    reranked, predictions = scored.order[:0], np.empty(0, np.float32)
    rows = np.empty((0, 0), np.float32)
    if release is not None and release.rank is not None and ranker_applies(case) and len(scores):
        best = scored.order[:MAX_RANKED]
        rows = feature_rows(case, pool, scored.kept[best], release.features)
        outputs = release.predict(rows)
        # where an output is not finite, the coarse order holds and `Ranked.reranked` is empty
        if np.isfinite(outputs).all():
            reranked, predictions, scores = best, outputs, _merged(scored, best, outputs)
    before_fatigue, fatigue = scores, _fatigue(case, pool, scored)
    if fatigue is not None:
        factor = np.where(scores > 0, case.world.recipe.fatigue.factor**fatigue, 1.0)
        scores = (scores * factor).astype(np.float32)
    order = scored.order
    if scores is not scored.totals:
        order = order[np.argsort(-scores[order], kind="stable")]
    return Ranked(scores, order, reranked, predictions, rows, fatigue, before_fatigue)


def ranker_applies(case: Case) -> bool:
    """Whether the ranker runs: release and recipe have one, and the person has an interest."""
    release = case.world.release
    has_one = release is not None and release.rank is not None
    return has_one and case.world.recipe.ranker and len(case.interest.slots) > 0


def _merged(
    scored: Scored, reranked: Places, predictions: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(k,) scores: in (0, 1), the logistic function of its prediction for a candidate that was ranked; below
    the least of these for the others, in the order of their coarse scores."""
    merged = np.empty(len(scored.totals))
    merged[reranked] = 1 / (
        1 + np.exp(-np.clip(predictions.astype(np.float64), -MAX_LOGIT, MAX_LOGIT))
    )
    rest = scored.order[len(reranked) :]
    if len(rest):
        fall = scored.totals[rest].astype(np.float64) - scored.totals[rest[0]]
        merged[rest] = merged[reranked].min() / 2 * np.exp(fall)
    return merged.astype(np.float32)


def _fatigue(case: Case, pool: Pool, scored: Scored) -> Floats | None:
    if case.world.recipe.fatigue.factor == 1 or not len(case.person.impressions):
        return None
    fatigue = case.shown(pool.slots[scored.kept])
    return fatigue if fatigue.any() else None
