"""The release's ranker: the rows it sees, and the order it makes of the best by the coarse score.

`feature_rows` is the one function that makes rows, in serving and in training: what a model learnt from is
what it is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.release.release import MAX_RANKED
from serving.decide.case import Case
from serving.decide.columns import COLUMNS
from serving.decide.pool import Kept, Places, Pool
from serving.decide.results import FeatureRows, Ranked, Scored
from serving.world.catalogue import Floats

MAX_LOGIT: Final = 80.0
"""What a model says beyond this is as good as this: the logistic function of it is still above 0."""
_COLUMNS: Final = {column.name: column for column in COLUMNS}


def feature_rows(case: Case, pool: Pool, numbers: Places, features: Sequence[str]) -> FeatureRows:
    """(k, F): each candidate's value in each column, in the order given; 0 where nothing is known.

    Errors: KeyError where there is no such column.
    """
    made = np.zeros((len(numbers), len(features)), np.float32)
    kept = Kept(numbers, pool.slots[numbers])
    for at, name in enumerate(features):
        value = _COLUMNS[name].value(case, pool, kept)
        if value is not None:
            made[:, at] = value
    return made


def rank(case: Case, pool: Pool, scored: Scored) -> Ranked:
    """The `MAX_RANKED` best by the model, where the recipe wants one and the release has one; the others in
    their places behind. Then what was shown lately is discounted."""
    release, scores = case.world.release, scored.totals
    of, model, made = scored.order[:0], np.empty(0, np.float32), np.empty((0, 0), np.float32)
    if release is not None and release.rank is not None and ranker_applies(case) and len(scores):
        best = scored.order[:MAX_RANKED]
        made = feature_rows(case, pool, scored.kept[best], release.features)
        said = release.rank(made)
        if np.isfinite(said).all():  # else the coarse order stands, and `Ranked.of` is empty
            of, model, scores = best, said, _merged(scored, best, said)
    untired, tired = scores, _fatigue(case, pool, scored)
    if tired is not None:
        factor = np.where(scores > 0, case.world.recipe.fatigue.factor**tired, 1.0)
        scores = (scores * factor).astype(np.float32)
    order = scored.order
    if scores is not scored.totals:
        order = order[np.argsort(-scores[order], kind="stable")]
    return Ranked(scores, order, of, model, made, tired, untired)


def ranker_applies(case: Case) -> bool:
    """Whether the release's ranker is to have a say: not about people of whom nothing is known."""
    release = case.world.release
    has_one = release is not None and release.rank is not None
    return has_one and case.world.recipe.ranker and len(case.interest.slots) > 0


def _merged(scored: Scored, of: Places, model: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of those that the model saw the logistic function of what it said, in (0, 1); the others below
    the least of these, in the order of their coarse scores."""
    merged = np.empty(len(scored.totals))
    merged[of] = 1 / (1 + np.exp(-np.clip(model.astype(np.float64), -MAX_LOGIT, MAX_LOGIT)))
    rest = scored.order[len(of) :]
    if len(rest):
        fall = scored.totals[rest].astype(np.float64) - scored.totals[rest[0]]
        merged[rest] = merged[of].min() / 2 * np.exp(fall)
    return merged.astype(np.float32)


def _fatigue(case: Case, pool: Pool, scored: Scored) -> Floats | None:
    if case.world.recipe.fatigue.factor == 1 or not len(case.person.impressions):
        return None
    tired = case.shown(pool.slots[scored.kept])
    return tired if tired.any() else None
