"""The ranker: boosted trees on top of the coarse score, learnt to order lists.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART: An Overview") as LightGBM has it.
Boosting starts from the coarse score, score = scale x coarse + trees: without anything to learn the order
stays. Few leaves, many rows in each, and every tree from a sample of the lists: choices are few and
people's habits change, so a bigger model would overfit the past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np

from models.arrays import F64
from models.evaluation.ranking import FeatureRows, Lists, spread
from models.training.onnx import export, in_float32

TREES: Final = 150
START_SPREAD: Final = 0.2
"""Spread of the coarse score within a list, in the unit of the trees' scores."""
MIN_GAIN_SHARE: Final = 0.01
"""A column with a smaller share of all gain is dropped: each costs time in every answer."""
MIN_LEAF_ROWS: Final = 200
PARAMETERS: Final[Mapping[str, Any]] = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 50,
    "learning_rate": 0.05,
    "num_leaves": 7,
    "lambda_l2": 10.0,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.6,
    "bagging_freq": 1,
    "bagging_by_query": True,
    "deterministic": True,
    "force_row_wise": True,
    # two threads on two busy cores wait for each other: one is quicker, with the same result
    "num_threads": 1,
    "verbosity": -1,
    "seed": 1,
}


class Ranker(NamedTuple):
    """`features`: the columns it takes, in order; `start` (F,): what each adds before the trees."""

    features: tuple[str, ...]
    start: F64
    trees: lightgbm.Booster

    def predict(self, rows: FeatureRows) -> F64:
        """(n,) scores of (n, F) rows, in float64: equal to the exported model's up to float32."""
        trees = np.asarray(self.trees.predict(rows, num_threads=1), np.float64)
        scores: F64 = trees + rows.astype(np.float64) @ self.start
        return scores

    def export(self) -> bytes:
        return export(self.trees, self.start)


def fit(lists: Lists, features: Sequence[str], coarse: Mapping[str, float]) -> Ranker:
    """A ranker of `lists`. `features` name the columns of `lists.rows`, and include those of `coarse`. It
    fits twice: the second time on the columns with enough gain in the first."""
    start = _start(lists, features, coarse)
    gain = _train(lists, start, TREES // 2).feature_importance("gain")
    keep = np.flatnonzero((gain > MIN_GAIN_SHARE * gain.sum()) | (start != 0)).tolist()
    return refit(lists, features, coarse, tuple(features[at] for at in keep))


def refit(
    lists: Lists, features: Sequence[str], coarse: Mapping[str, float], chosen: tuple[str, ...]
) -> Ranker:
    """A ranker of `lists` on the columns `chosen`, by one fit."""
    columns = [features.index(name) for name in chosen]
    start = _start(lists, features, coarse)[columns]
    kept = lists._replace(rows=np.ascontiguousarray(lists.rows[:, columns]))
    return Ranker(chosen, start, in_float32(_train(kept, start, TREES)))


def _start(lists: Lists, features: Sequence[str], coarse: Mapping[str, float]) -> F64:
    weights = np.array([coarse.get(name, 0.0) for name in features])
    return weights * START_SPREAD / (spread(lists.rows, lists.size, weights) or START_SPREAD)


def _train(lists: Lists, start: F64, trees: int) -> lightgbm.Booster:
    data = lightgbm.Dataset(
        lists.rows,
        lists.target.astype(np.int32),
        group=lists.size,
        init_score=lists.rows.astype(np.float64) @ start,
    )
    min_rows = max(1, min(MIN_LEAF_ROWS, len(lists.rows) // 100))
    return lightgbm.train({**PARAMETERS, "min_data_in_leaf": min_rows}, data, trees)
