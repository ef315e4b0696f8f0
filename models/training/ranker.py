"""The ranker: boosted trees on top of the coarse score, learnt to order lists.

LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART: An Overview") as LightGBM has it.
Boosting starts from the coarse score, score = scale x coarse + trees: without anything to learn the order
stays. Few leaves, many rows in each, and every tree from a sample of the lists: choices are few and
people's habits change, so a bigger model would overfit the past. Lists whose target was nearly new weigh
more where the ranker would else pass over new items: how much more is tried on the later lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np

from models.arrays import F64
from models.evaluation.choices import compared, expected
from models.evaluation.ranking import FeatureRows, Lists, spread
from models.training.onnx import export, in_float32

TREES: Final = 150
START_SPREAD: Final = 0.2
"""Spread of the coarse score within a list, in the unit of the trees' scores."""
MIN_GAIN_SHARE: Final = 0.01
"""A column with a smaller share of all gain is dropped: each costs time in every answer."""
MIN_LEAF_ROWS: Final = 200
NEW_WEIGHTS: Final = (1.0, 2.0, 4.0)
"""Weights of a list whose target was nearly new that are tried, the least first."""
TRIED_ON_SHARE: Final = 0.4
"""The last lists, on which they are tried."""
MIN_NEW_LISTS: Final = 20
"""Among these; fewer decide nothing."""
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
    """A ranker of `lists`, which are in order of time. `features` name the columns of `lists.rows`, and
    include those of `coarse`. It fits twice: the second time on the columns with enough gain in the first."""
    start = _start(lists, features, coarse)
    weight = _new_weight(lists, start)
    gain = _train(lists, start, TREES // 2, weight).feature_importance("gain")
    keep = np.flatnonzero((gain > MIN_GAIN_SHARE * gain.sum()) | (start != 0))
    kept = lists._replace(rows=np.ascontiguousarray(lists.rows[:, keep]))
    chosen = tuple(features[at] for at in keep.tolist())
    return Ranker(chosen, start[keep], in_float32(_train(kept, start[keep], TREES, weight)))


def _new_weight(lists: Lists, start: F64) -> float:
    """The least of `NEW_WEIGHTS` with which the ranker finds new items as well as the coarse score does, and
    all items too; else that which finds most of all items."""
    first = int((1 - TRIED_ON_SHARE) * len(lists.size))
    early, late = _between(lists, 0, first), _between(lists, first, len(lists.size))
    if late.new is None or late.new.sum() < MIN_NEW_LISTS:
        return NEW_WEIGHTS[0]
    base = late.rows.astype(np.float64) @ start
    before = _gains(late, base)
    found: dict[float, float] = {}
    for weight in NEW_WEIGHTS:
        trees = _train(early, start, TREES // 2, weight)
        after = _gains(late, base + np.asarray(trees.predict(late.rows, num_threads=1)))
        found[weight] = float(after.mean())
        if after[late.new].mean() >= before[late.new].mean() and after.mean() >= before.mean():
            return weight
    return max(found, key=lambda weight: found[weight])


def _between(lists: Lists, first: int, end: int) -> Lists:
    """The lists from `first` to `end`."""
    starts = np.concatenate([[0], np.cumsum(lists.size)])
    rows = slice(int(starts[first]), int(starts[end]))
    new = None if lists.new is None else lists.new[first:end]
    return Lists(lists.rows[rows], lists.target[rows], lists.size[first:end], new)


def _gains(lists: Lists, scores: F64) -> F64:
    """(G,) NDCG of each list, in expectation over equal scores."""
    of_list = np.repeat(np.arange(len(lists.size)), lists.size)
    every = np.ones(len(lists.size), np.bool_)
    return expected("ndcg", compared(scores, of_list, scores[lists.target], every))


def _start(lists: Lists, features: Sequence[str], coarse: Mapping[str, float]) -> F64:
    weights = np.array([coarse.get(name, 0.0) for name in features])
    return weights * START_SPREAD / (spread(lists.rows, lists.size, weights) or START_SPREAD)


def _train(lists: Lists, start: F64, trees: int, new_weight: float) -> lightgbm.Booster:
    data = lightgbm.Dataset(
        lists.rows,
        lists.target.astype(np.int32),
        group=lists.size,
        weight=None
        if lists.new is None
        else np.repeat(np.where(lists.new, new_weight, 1.0), lists.size),
        init_score=lists.rows.astype(np.float64) @ start,
    )
    min_rows = max(1, min(MIN_LEAF_ROWS, len(lists.rows) // 100))
    return lightgbm.train({**PARAMETERS, "min_data_in_leaf": min_rows}, data, trees)
