"""What a release is made of, chosen on the history before the choices that judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from infra.apps.replay.ranks import SINGLE_SOURCES, CandidateLists, CoarseValues
from infra.apps.replay.scenes import HeldOutChoice, TrainingReplay
from infra.apps.train import countings, slices, strangers
from infra.apps.train.log import Interactions, TimeSplit
from infra.apps.train.strangers import PopularLists
from models.evaluation.ranking import Lists
from models.release.release import Release, Space
from models.training.coarse import MIN_VECTOR_WEIGHT, POPULAR_BY_WINDOW, choose_weights
from schemas.state.counting import BUILT_IN, Counting
from serving.decide.case import DEFAULT_WEIGHTS

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter

EVERY_COLUMN: Final[Mapping[str, float]] = {
    **DEFAULT_WEIGHTS,
    "vector": MIN_VECTOR_WEIGHT,
    **dict.fromkeys(POPULAR_BY_WINDOW, DEFAULT_WEIGHTS["popular"]),
}
"""Weights by which every source that may be chosen brings its candidates."""


class Coarse(NamedTuple):
    """The counting and the weights of a release, and the `figures` that chose them."""

    counting: Counting
    weights: Mapping[str, float]
    figures: dict[str, Any]


def choose(
    replay: TrainingReplay,
    acts: Interactions,
    planned: TimeSplit,
    space: Space,
    limit: int,
    reporter: Reporter,
) -> Coarse:
    """Chooses by at most `limit` of the choices to learn from, and by as many first choices of strangers."""
    some = evenly(planned.train, limit)
    with reporter.work("choose how pairs are counted"):
        counting, ndcg = countings.choose(replay, some)
    basis = Release("basis", (), EVERY_COLUMN, space, None, counting)
    values, popular = CoarseValues(tuple(EVERY_COLUMN)), PopularLists()
    with reporter.work("choose the weights of the coarse score", len(some)) as progress:
        for scene in replay.play(some, basis, progress):
            values.add(scene)
            popular.add(scene.world, scene.target.now)
    by_time = sorted(some, key=lambda it: it.now)
    person = np.unique([it.person for it in by_time], return_inverse=True)[1]
    weights, window = choose_weights(
        values.candidates(person), DEFAULT_WEIGHTS, counting.window, SINGLE_SOURCES
    )
    at = evenly(strangers.first_choices(acts, planned), limit)
    mix, hit_rate = strangers.choose(popular, acts, at, BUILT_IN.strangers)
    return Coarse(
        msgspec.structs.replace(counting, window=window, strangers=mix),
        weights,
        {
            "choices": len(some),
            "strangers": len(at),
            "ndcg_at_100": ndcg,
            "strangers_hit_rate_at_10": round(hit_rate, 5),
        },
    )


def candidate_lists(
    replay: TrainingReplay,
    acts: Interactions,
    planned: TimeSplit,
    basis: Release,
    reporter: Reporter,
) -> Lists:
    """What the ranker would see of each choice to learn from."""
    found = CandidateLists()
    with reporter.work("replay the choices to learn from", len(planned.train)) as progress:
        for scene in replay.play(planned.train, basis, progress):
            found.add(scene)
    return found.lists(slices.established(acts, planned.learnt * 1000))


def evenly(of: Sequence[HeldOutChoice] | Any, limit: int) -> Any:
    """At most `limit` elements, evenly over all.

    >>> evenly([1, 2, 3, 4, 5], 2)
    [1, 4]
    """
    return of[:: max(1, -(-len(of) // limit))]
