"""The passes of a replay: which arms answer from which release and state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.apps.evaluate.answers import Answers, recipes
from infra.apps.evaluate.candidate import Candidate
from infra.apps.evaluate.lists import MEAN_RATING, mean_ratings, scores
from infra.apps.evaluate.protocols import delays
from infra.apps.evaluate.protocols.delays import Cutoffs, Delay
from infra.apps.evaluate.protocols.plan import EvaluationPlan, Seen
from infra.apps.evaluate.replay import (
    BUILT_IN,
    CANDIDATE,
    FRESH,
    FROZEN,
    LATE,
    RELEASED,
    UNCAPPED,
    Replay,
    ReplayArm,
    product_arms,
    source_arms,
)
from models.arrays import F64
from models.release.release import Release

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter


def cutoffs(planned: EvaluationPlan, delay: Delay | None) -> dict[str, Cutoffs]:
    """By name, the fresh one first: what is known in each pass."""
    found = {FRESH: delays.fresh(planned)}
    if delay is not None:
        found[LATE] = delays.late(planned, delay)
    if planned.protocol == "prequential":
        found[FROZEN] = delays.frozen(planned)
    return found


def answers(
    replay: Replay,
    cuts: dict[str, Cutoffs],
    trained: Candidate,
    seen: Seen,
    reporter: Reporter,
) -> dict[str, Answers]:
    """Of every arm. With a delay all are late but `FRESH`, which is the product as it is, and `FROZEN`."""
    using, found = recipes(seen), dict[str, Answers]()
    product = ReplayArm(using.product, whole=True)
    release = trained.release if trained.serves else None

    def play(name: str, cut: str, by: Release | None, arms: dict[str, ReplayArm]) -> None:
        with reporter.work(f"replay {name}", len(cuts[cut].now)) as progress:
            found.update(replay.answers(cuts[cut], by, arms, progress))

    asked = LATE if LATE in cuts else FRESH
    if asked == LATE:
        play("with fresh state", FRESH, release, {FRESH: product})
    own = product_arms(CANDIDATE, using) if trained.release else {}
    play("release and single sources", asked, trained.release, {**own, **source_arms(using)})
    play("without a release", asked, None, product_arms(BUILT_IN, using))
    if FROZEN in cuts:
        play("with state as of the split", FROZEN, release, {FROZEN: product})
    serving = CANDIDATE if trained.serves else BUILT_IN
    for suffix in ("", UNCAPPED):
        found[RELEASED + suffix] = found[serving + suffix]
        if trained.serves:
            del found[CANDIDATE + suffix]
    return found


def judged_scores(
    replay: Replay,
    planned: EvaluationPlan,
    trained: Candidate,
    seen: Seen,
    reporter: Reporter,
) -> dict[str, F64]:
    """By arm, of each act of the judged lists."""
    using, found = recipes(seen), dict[str, F64]()
    own = {CANDIDATE: using.product} if trained.release else {}
    passes = ((trained.release, {**own, **using.sources}), (None, {BUILT_IN: using.product}))
    with reporter.work("score the judged lists", 2 * len(planned.targets)) as progress:
        for release, of in passes:
            found |= scores(replay, planned, release, of, progress)
    found[RELEASED] = found.pop(CANDIDATE) if trained.serves else found[BUILT_IN]
    items = planned.acts.item[planned.judged]
    return {**found, MEAN_RATING: mean_ratings(planned.history)[items]}
