"""From a log to a release: replay, train, evaluate. Writes and sends nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.offline.history import Log
from flows.offline.records import recorded
from infra.apps.evaluate.repeats import REPEAT
from infra.apps.replay.ranks import (
    SINGLE_SOURCES,
    CandidateLists,
    ShownRanks,
    coarse,
    ranks_by_weight,
    single_source,
)
from infra.apps.replay.scenes import FEATURES, RECIPE, TrainingReplay
from infra.apps.train.items import Items
from infra.apps.train.log import Interactions, TimeSplit, interactions, split_by_time
from infra.settings import Settings
from models.evaluation.gate import (
    BUILT_IN,
    COARSE,
    RANKER,
    RankingQuality,
    Verdict,
    at_most,
    judge,
    qualities,
)
from models.evaluation.ranking import Ranks, concatenate, gains
from models.release import artefact
from models.release.release import MAX_RANKED, Release, Space
from models.training import ranker
from models.training.ranker import Ranker
from models.training.vectors import Learnt
from schemas.errors import FreshetError
from schemas.releases import TrainingData
from schemas.state.counting import Counting
from serving.decide.case import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter

MIN_VECTOR_WEIGHT: Final = 0.0025
VECTOR_WEIGHTS: Final = (MIN_VECTOR_WEIGHT, 0.005, 0.01, 0.02, 0.04)
MAX_DIFFERENCE: Final = 1e-5
"""Between a score in Python and one by the exported model."""
MIN_ROWS_COMPARED: Final = 1_000
"""Rows on which the two models are compared, where there are so many."""


class Sizes(NamedTuple):
    """The most choices to learn from, to judge by, and to find the weight of the vectors by."""

    train: int = 5_000
    judge: int = 1_500
    weigh: int = 700


class ExportDiffers(FreshetError):
    """The exported model and the trained one give different scores."""


@dataclass
class TrainedRelease:
    """A release before it is written. `model` is None where the gate refused the ranker."""

    hashes: NDArray[np.uint64]
    learnt: Learnt
    weights: Mapping[str, float]
    features: tuple[str, ...]
    model: bytes | None
    data: TrainingData
    verdicts: dict[str, Verdict]
    arms: dict[str, RankingQuality]
    choices: dict[str, int]
    dropped: Mapping[str, int]
    """Actions that nothing was learnt from, by reason."""
    compared: dict[str, float]
    seconds: dict[str, float]
    counting: Counting = field(default_factory=Counting)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics for the manifest."""
        return {
            "gate": {name: {"outcome": it.outcome, "why": it.why, "ratio": it.ratio}
                     for name, it in self.verdicts.items()},
            "arms": {name: {"hit_rate_at_10": it.hit_rate, "ndcg_at_10": it.ndcg}
                     for name, it in self.arms.items()},
            "choices": self.choices,
            "data": {"dropped": dict(self.dropped)},
            "repeat": dict(REPEAT),
            "onnx": self.compared,
        }  # fmt: skip


def train(
    log: Log,
    settings: Settings,
    reporter: Reporter,
    sizes: Sizes = Sizes(),  # noqa: B008
) -> TrainedRelease:
    """Trains a release: one learnt from the earlier events is judged on the later ones; then vectors, and a
    ranker that passed the gate, are learnt again from the whole log. Errors: `TooLittle`, `ExportDiffers`."""
    began = time.monotonic()
    acts = interactions(log)
    planned = split_by_time(log, acts, sizes.train, sizes.judge)
    with reporter.work("fold the log up to each choice"):
        replay = TrainingReplay(log, [*planned.train, *planned.judge], settings)
    items = Items(log)
    with reporter.work("learn vectors from the earlier events"):
        early = items.learn(acts, replay.before(planned.learnt), planned.learnt)
    weights, judged, verdict = _weights(
        replay, planned, _basis(items, early), sizes.weigh, reporter
    )
    basis = _basis(items, early, weights)
    ranked = _ranker(replay, planned, basis, reporter)
    judged[RANKER] = ranked.ranks
    verdicts = {COARSE: verdict, RANKER: _judge(RANKER, judged, planned)}
    released = verdicts[RANKER].released
    with reporter.work("learn vectors from all events"):
        end = int(acts.time[-1]) // 1000 + 1
        learnt = items.learn(acts, replay.before(end), end)
    return TrainedRelease(
        hashes=items.hashes,
        learnt=learnt,
        weights=weights,
        features=ranked.features if released else (),
        model=ranked.model if released else None,
        data=_data(log, acts),
        verdicts=verdicts,
        arms=qualities(judged),
        choices={
            "trained": len(planned.train),
            "judged": len(planned.judge),
            "lists": ranked.lists,
        },
        dropped=planned.dropped,
        compared=ranked.compared,
        seconds={"train": round(time.monotonic() - began, 1)},
    )


class _Ranked(NamedTuple):
    """A ranker learnt from all choices, and the `ranks` of one learnt only from those before the judged ones.
    `lists`: the number of choices that it learnt from."""

    features: tuple[str, ...]
    model: bytes | None
    ranks: Ranks
    lists: int
    compared: dict[str, float]


def _ranker(
    replay: TrainingReplay, planned: TimeSplit, basis: Release, reporter: Reporter
) -> _Ranked:
    early = CandidateLists()
    with reporter.work("replay the choices to learn from", len(planned.train)) as progress:
        for scene in replay.play(planned.train, basis, progress):
            early.add(scene)
    found = early.lists
    if not len(found.size):
        return _Ranked((), None, np.zeros(len(planned.judge), np.int64), 0, {})
    with reporter.work("train a ranker on them"):
        first = ranker.fit(found, FEATURES, basis.coarse)
    model = first.export()
    compared = _compare(first, model, found.rows)
    rank = artefact.ranker(model, len(first.features))
    whole = Release(basis.id, first.features, basis.coarse, basis.space, rank)
    late, shown = CandidateLists(), ShownRanks({RANKER: RECIPE})
    with reporter.work("evaluate the ranker", len(planned.judge)) as progress:
        for scene in replay.play(planned.judge, whole, progress):
            late.add(scene)
            shown.add(scene)
    every = concatenate(found, late.lists)
    with reporter.work("train it again, on all choices"):
        last = ranker.refit(every, FEATURES, basis.coarse, first.features)
    model = last.export()
    again = _compare(last, model, every.rows)
    return _Ranked(
        last.features,
        model,
        shown.ranks[RANKER],
        len(every.size),
        max(compared, again, key=lambda it: it["max_difference"]),
    )


def _basis(items: Items, learnt: Learnt, weights: Mapping[str, float] | None = None) -> Release:
    space = Space(items.hashes, learnt.vectors, artefact.encoder(learnt.encoder))
    return Release("basis", (), weights or {**DEFAULT_WEIGHTS, "vector": MIN_VECTOR_WEIGHT}, space)


def _weights(
    replay: TrainingReplay, planned: TimeSplit, basis: Release, weigh_by: int, reporter: Reporter
) -> tuple[Mapping[str, float], dict[str, Ranks], Verdict]:
    """The coarse weights, the ranks of each arm without a ranker, and the verdict on the vectors."""
    sample = planned.train[:: max(1, len(planned.train) // weigh_by)]
    with reporter.work("weigh the vectors", len(sample)) as progress:
        ranks = ranks_by_weight(replay.play(sample, basis, progress), VECTOR_WEIGHTS, "vector")
    best = max(VECTOR_WEIGHTS, key=lambda weight: gains(ranks[weight], MAX_RANKED).mean())
    recipes = {name: single_source(name) for name in SINGLE_SOURCES}
    recipes[BUILT_IN] = coarse(DEFAULT_WEIGHTS)
    tried = {
        weight: {**DEFAULT_WEIGHTS, "vector": weight}
        for weight in dict.fromkeys((best, MIN_VECTOR_WEIGHT))
    }
    recipes |= {f"{COARSE} {weight}": coarse(it) for weight, it in tried.items()}
    with reporter.work("evaluate the arms without a ranker", len(planned.judge)) as progress:
        shown = ShownRanks(recipes)
        for scene in replay.play(planned.judge, basis, progress):
            shown.add(scene)
    judged = shown.ranks
    for weight, weights in tried.items():
        own = judged.pop(f"{COARSE} {weight}")
        verdict = _judge(COARSE, {COARSE: own, BUILT_IN: judged[BUILT_IN]}, planned)
        if verdict.released:
            judged.pop(f"{COARSE} {MIN_VECTOR_WEIGHT}", None)
            return weights, {**judged, COARSE: own}, verdict
    return dict(DEFAULT_WEIGHTS), {**judged, COARSE: judged[BUILT_IN]}, verdict


def _judge(candidate: str, ranks: Mapping[str, Ranks], planned: TimeSplit) -> Verdict:
    person = np.array([target.person for target in planned.judge], np.str_)
    chosen = at_most(person)
    return judge(candidate, {name: gains(of)[chosen] for name, of in ranks.items()}, person[chosen])


def _compare(trees: Ranker, model: bytes, rows: NDArray[np.float32]) -> dict[str, float]:
    """Checks that Python and ONNX give equal scores on real rows. Errors: `ExportDiffers`."""
    columns = [FEATURES.index(name) for name in trees.features]
    every = max(1, len(rows) // (20 * MIN_ROWS_COMPARED))
    some = np.ascontiguousarray(rows[::every][:, columns])
    exported = artefact.ranker(model, len(trees.features))(some)
    difference = float(np.abs(exported - trees.predict(some)).max())
    if not difference <= MAX_DIFFERENCE:
        raise ExportDiffers(
            f"the exported ranker differs from the trained one by {difference:.2g} on"
            f" {len(some):,} rows, and {MAX_DIFFERENCE:g} is allowed: there is no release"
        )
    return {"rows": len(some), "max_difference": difference}


def _data(log: Log, acts: Interactions) -> TrainingData:
    return TrainingData(
        events=sum(len(records) for records in log.events),
        offsets=tuple(recorded(records).next for records in log.events),
        first=int(acts.time[0]),
        last=int(acts.time[-1]),
    )
