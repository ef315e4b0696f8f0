"""From a log to a release: replay, train, evaluate. Writes and sends nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.offline.history import Log
from flows.offline.records import recorded
from infra.apps.replay.scenes import FEATURES, TrainingReplay
from infra.apps.train import arms, checks, history
from infra.apps.train.items import Items
from infra.apps.train.log import Interactions, TimeSplit, interactions, split_by_time
from infra.apps.train.slices import indices, slices
from infra.apps.train.trained import Judged, TrainedRelease
from infra.settings import Settings
from models.evaluation.gate import COARSE, RANKER, Condition, at_most, judge
from models.evaluation.intervals import IntervalEstimate, Resamples
from models.evaluation.ranking import MAX_RANK, FeatureRows, Ranks, gains
from models.release import artefact
from models.release.release import Release, Space
from models.training import ranker
from models.training.dataset import sound
from schemas.releases import TrainingData

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter


SAMPLE_ROWS: Final = 256
"""That a release keeps: on them its trees are compared with ONNX Runtime wherever it is loaded."""


class Sizes(NamedTuple):
    """The most choices to learn from, to judge by, and to choose counting and weights by."""

    train: int = 10_000
    judge: int = 10_000
    choose: int = 1_000


class RankerModel(NamedTuple):
    """A ranker's columns, its exported model, and how it holds the checks. `lists`: what it learnt from;
    `dropped`: the lists that it could not learn from, by reason; `sample`: rows of `lists`."""

    features: tuple[str, ...]
    model: bytes | None
    conditions: tuple[Condition, ...]
    lists: int
    dropped: Counter[str]
    sample: FeatureRows | None = None


def train(
    log: Log,
    settings: Settings,
    reporter: Reporter,
    sizes: Sizes = Sizes(),  # noqa: B008
    parent: Release | None = None,
    always_rank: bool = False,
) -> TrainedRelease:
    """Trains a release on the earlier events, and judges it, as it is, by the later choices: against every
    single source, the built-in recipes, and `parent`, the release that serves. `always_rank`: it has its
    ranker also where that ranks worse than the coarse score. Errors: `TooLittle`."""
    began = time.monotonic()
    acts = interactions(log)
    planned = split_by_time(log, acts, sizes.train, sizes.judge)
    with reporter.work("fold the log up to each choice"):
        replay = TrainingReplay(log, [*planned.train, *planned.judge], settings)
    items = Items(log)
    with reporter.work("learn vectors from the earlier events"):
        learnt = items.learn(acts, replay.facts_before(planned.learnt), planned.learnt)
    space = Space(items.hashes, learnt.vectors, artefact.encoder(learnt.encoder))
    chosen = history.choose(replay, acts, planned, space, sizes.choose, reporter)
    basis = Release("basis", (), chosen.weights, space, None, chosen.counting)
    made = _ranker(replay, acts, planned, basis, reporter)
    judged = _judged(log, acts, planned, replay, basis, made, parent, reporter)
    with_ranker = (
        always_rank
        or judged.verdicts[RANKER].released
        or (not judged.verdicts[COARSE].released and _not_below(judged, RANKER, COARSE))
    )
    return TrainedRelease(
        hashes=items.hashes,
        learnt=learnt,
        coarse=chosen,
        features=made.features if with_ranker else (),
        model=made.model if with_ranker else None,
        data=_data(log, acts),
        dropped=+(planned.dropped + made.dropped),
        judged=judged,
        choices={
            "trained": len(planned.train),
            "judged": judged.choices,
            "lists": made.lists,
        },
        seconds={"train": round(time.monotonic() - began, 1)},
        sample=made.sample if with_ranker else None,
    )


def _ranker(
    replay: TrainingReplay,
    acts: Interactions,
    planned: TimeSplit,
    basis: Release,
    reporter: Reporter,
) -> RankerModel:
    dropped = Counter[str]()
    found = sound(history.candidate_lists(replay, acts, planned, basis, reporter), dropped)
    if not len(found.size):
        return RankerModel((), None, (), 0, dropped)
    with reporter.work("train a ranker on them"):
        fitted = ranker.fit(found, FEATURES, basis.coarse)
    model = fitted.export()
    conditions = checks.check(fitted, model, found.rows)
    columns = [FEATURES.index(name) for name in fitted.features]
    some = np.linspace(0, len(found.rows) - 1, SAMPLE_ROWS).astype(np.int64)
    sample = np.ascontiguousarray(found.rows[some][:, columns])
    return RankerModel(fitted.features, model, conditions, len(found.size), dropped, sample)


def _judged(
    log: Log,
    acts: Interactions,
    planned: TimeSplit,
    replay: TrainingReplay,
    basis: Release,
    made: RankerModel,
    parent: Release | None,
    reporter: Reporter,
) -> Judged:
    release = basis
    if made.model is not None:
        release = replace(basis, features=made.features)
        release = artefact.with_ranker(release, made.model, made.sample)
    partition, offset = np.array([it[:2] for it in planned.judge], np.int64).T
    at = indices(acts, partition, offset)
    kept = at_most(acts.person[at])
    at, targets = at[kept], [planned.judge[n] for n in kept.tolist()]
    ranks = arms.play(replay, targets, release, parent, reporter)
    ranks.setdefault(RANKER, np.zeros(len(targets), np.int64))
    person = acts.person[at]
    parts = slices(acts, at, planned.judged, log.items)
    gained = {name: gains(of) for name, of in ranks.items()}
    rivals = {name: of for name, of in gained.items() if name != RANKER}
    return Judged(
        {
            COARSE: judge(COARSE, rivals, person, parts),
            RANKER: judge(RANKER, gained, person, parts, made.conditions),
        },
        _means({name: _hits(of) for name, of in ranks.items()}, person),
        _means(gained, person),
        len(targets),
    )


def _hits(ranks: Ranks) -> NDArray[np.float64]:
    return ((ranks > 0) & (ranks <= MAX_RANK)).astype(np.float64)


def _means(
    of: Mapping[str, NDArray[np.float64]], person: NDArray[np.int64]
) -> dict[str, IntervalEstimate]:
    sums = Resamples(person, of)
    return {name: sums.mean(name) for name in of}


def _not_below(judged: Judged, one: str, other: str) -> bool:
    """Whether the first arm found something, and no less than the second."""
    own, its = judged.ndcg[one].value or 0.0, judged.ndcg[other].value or 0.0
    return own > 0 and own >= its


def _data(log: Log, acts: Interactions) -> TrainingData:
    return TrainingData(
        events=sum(len(records) for records in log.events),
        offsets=tuple(recorded(records).next for records in log.events),
        first=int(acts.time[0]),
        last=int(acts.time[-1]),
    )
