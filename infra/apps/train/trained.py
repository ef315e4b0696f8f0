"""A trained release before it is written, and what the gate says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.apps.replay.recipe import REPEAT
from infra.apps.train.history import Coarse
from models.evaluation.gate import COARSE, RANKER, RankingQuality, Verdict
from models.evaluation.intervals import IntervalEstimate
from models.evaluation.ranking import FeatureRows
from models.release import artefact
from models.release.release import Release, Space
from models.training.vectors import Learnt
from schemas.releases import TrainingData
from schemas.state.counting import Counting


class Judged(NamedTuple):
    """What the choices held out say: a verdict on each component, and HR@10 and NDCG@10 of each arm."""

    verdicts: dict[str, Verdict]
    hit_rate: dict[str, IntervalEstimate]
    ndcg: dict[str, IntervalEstimate]
    choices: int


@dataclass
class TrainedRelease:
    """A release before it is written. `model` is None where it goes without a ranker; `sample` (n, F): some
    rows that it learnt from. `released`: the gate lets it serve; else it is kept, for a person to promote.
    `verdict`: the one that decided. `dropped`: actions that nothing was learnt from, by reason."""

    hashes: NDArray[np.uint64]
    learnt: Learnt
    coarse: Coarse
    features: tuple[str, ...]
    model: bytes | None
    data: TrainingData
    dropped: Mapping[str, int]
    judged: Judged
    choices: dict[str, int]
    seconds: dict[str, float]
    sample: FeatureRows | None = None

    @property
    def weights(self) -> Mapping[str, float]:
        return self.coarse.weights

    @property
    def counting(self) -> Counting:
        return self.coarse.counting

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return self.judged.verdicts

    @property
    def arms(self) -> dict[str, RankingQuality]:
        judged = self.judged
        return {
            name: RankingQuality(hit_rate.value or 0.0, judged.ndcg[name].value or 0.0)
            for name, hit_rate in judged.hit_rate.items()
        }

    @property
    def verdict(self) -> Verdict:
        return self.verdicts[COARSE if self.model is None else RANKER]

    @property
    def released(self) -> bool:
        return self.verdict.released

    def release(self, identifier: str) -> Release:
        """The release in memory, as it is once it was written and loaded."""
        space = Space(self.hashes, self.learnt.vectors, artefact.encoder(self.learnt.encoder))
        made = Release(identifier, self.features, self.weights, space, counting=self.counting)
        return made if self.model is None else artefact.with_ranker(made, self.model, self.sample)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics for the manifest."""
        return {
            "released": self.released,
            "gate": {name: _of_verdict(it) for name, it in self.verdicts.items()},
            "arms": {
                name: _of_arm(hit_rate, self.judged.ndcg[name])
                for name, hit_rate in self.judged.hit_rate.items()
            },
            "choices": self.choices,
            "data": {"dropped": dict(self.dropped)},
            "chosen": self.coarse.figures,
            "repeat": dict(REPEAT),
        }


def _of_verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "why": verdict.why,
        **_of_ratio(IntervalEstimate(verdict.ratio, verdict.lower, verdict.upper)),
        "rival": verdict.rival,
        "n": verdict.n,
        "people": verdict.people,
        "needed": verdict.needed,
        "rivals": {name: _of_ratio(it) for name, it in verdict.rivals.items()},
        "slices": {name: _of_ratio(it) for name, it in verdict.slices.items()},
        "checks": {it.name: {"passed": it.passed, "why": it.why} for it in verdict.conditions},
    }


def _of_ratio(ratio: IntervalEstimate) -> dict[str, float | None]:
    values = {"ratio": ratio.value, "lower": ratio.lower, "upper": ratio.upper}
    return {name: _rounded(value) for name, value in values.items()}


def _of_arm(hit_rate: IntervalEstimate, ndcg: IntervalEstimate) -> dict[str, float | None]:
    values = {
        f"{name}{suffix}": value
        for name, its in (("hit_rate_at_10", hit_rate), ("ndcg_at_10", ndcg))
        for suffix, value in (("", its.value), ("_lo", its.lower), ("_hi", its.upper))
    }
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
