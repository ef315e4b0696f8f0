"""The result of judged lists, as JSON has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.apps.evaluate.figures import Figures, as_ratio, with_interval
from infra.apps.evaluate.lists import MEAN_RATING
from infra.apps.evaluate.protocols.plan import EvaluationPlan
from infra.apps.evaluate.replay import BUILT_IN, CANDIDATE, RELEASED
from infra.apps.evaluate.result import POPULARITY
from models.arrays import F64
from models.evaluation.intervals import Resamples
from models.evaluation.judged import JudgedLists, hits, mrr, ndcg, precision, recall

RANDOM: Final = "random"
PRODUCT: Final = (RELEASED, BUILT_IN, CANDIDATE)
METRICS: Final[Mapping[str, Callable[[JudgedLists], F64]]] = {
    "ndcg": lambda lists: ndcg(lists, gain="binary"),
    "hr": hits,
    "recall": recall,
    "precision": precision,
    "mrr": mrr,
}
"""Of lists whose relevant items are what a person liked; at 10."""

MAX_GRADE: Final = 10.0
"""The greatest rating of a larger scale counts as this: 2^r - 1 of it is finite."""


def judged_result(
    plan: EvaluationPlan, scores: Mapping[str, F64], window: str, seed: int
) -> Figures:
    """`scores`: by arm, of each act of `plan.judged`. Lists in which nothing was liked are left out."""
    liked = plan.acts.target[plan.judged].astype(np.float64)
    rated = grades(plan.acts.rated)[plan.judged]
    every = {**scores, RANDOM: np.zeros(len(liked))}
    kept = JudgedLists(liked, liked, plan.size).has_relevant
    person = plan.acts.person[plan.targets][kept]
    by_list = {name: JudgedLists(score, liked, plan.size) for name, score in every.items()}
    columns = {
        f"{metric} {name}": measure(lists)[kept]
        for name, lists in by_list.items()
        for metric, measure in METRICS.items()
    }
    columns |= {
        f"ndcg_graded {name}": ndcg(JudgedLists(score, rated, plan.size))[kept]
        for name, score in every.items()
    }
    sums = Resamples(person, columns, seed)
    arms = {name: _of_arm(sums, name) for name in every}
    sources = {it: arms[it] for it in arms if it not in (*PRODUCT, RANDOM, MEAN_RATING)}
    best = max(sources, key=lambda name: sources[name]["ndcg"])
    recent = f"popular_{window}"
    plan.excluded.update(Counter({"lists without a liked item": int((~kept).sum())}))
    return {
        "n": int(kept.sum()),
        "people": sums.people,
        RANDOM: arms[RANDOM],
        "popularity": sources.get(POPULARITY, sources.get("popular", {})),
        "recent_popularity": {"window": window, **sources.get(recent, sources.get("popular", {}))},
        MEAN_RATING: arms[MEAN_RATING],
        "sources": sources,
        **{name: arms[name] for name in PRODUCT if name in arms},
        "best_source": best,
        "ratios": {
            name: as_ratio(sums.ratio(f"ndcg {RELEASED}", f"ndcg {name}"))
            for name in arms
            if name != RELEASED
        },
        "slices": {},
    }


def _of_arm(sums: Resamples, name: str) -> Figures:
    found: Figures = {"coverage": None}  # nothing is shown of what was not rated
    for metric in (*METRICS, "ndcg_graded"):
        found |= with_interval(metric, sums.mean(f"{metric} {name}"))
    return found


def grades(rated: NDArray[np.float32]) -> F64:
    """(n,) ratings as grades of 0 to `MAX_GRADE`; one below 0 is 0, NaN: none.

    >>> grades(np.array([-1, 1, 2000, np.nan], np.float32)).tolist()
    [0.0, 0.005, 10.0, nan]
    >>> grades(np.array([0.5, 5], np.float32)).tolist()
    [0.5, 5.0]
    """
    found: F64 = np.maximum(rated, 0).astype(np.float64)
    return found * min(1.0, MAX_GRADE / max(float(np.nanmax(found)), MAX_GRADE))
