"""The passes of a replay: which arms answer from which release and state."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from infra.apps.evaluate.answers import Answers, recipes
from infra.apps.evaluate.candidate import Candidate
from infra.apps.evaluate.lists import MEAN_RATING, mean_ratings, scores
from infra.apps.evaluate.player import Player, ReplayPass
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
    Contender,
    Replay,
    product_arms,
    source_arms,
)
from models.arrays import F64

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


def first_pass(cuts: Mapping[str, Cutoffs], seen: Seen) -> ReplayPass:
    """The one that takes no release: it can begin before one is trained."""
    return ReplayPass(
        "without a release", _asked(cuts), False, product_arms(BUILT_IN, recipes(seen))
    )


def answers(
    player: Player,
    first: Future[dict[str, Answers]],
    trained: Candidate,
    cuts: Mapping[str, Cutoffs],
    seen: Seen,
) -> dict[str, Answers]:
    """Of every arm; `first`: of `first_pass`. With a delay all are late but `FRESH`, which is the product as
    it is, and `FROZEN`."""
    using, state, there = recipes(seen), _asked(cuts), trained.trained is not None
    sources = source_arms(using)
    plain = {name: arm for name, arm in sources.items() if name.startswith("popular")}
    own = product_arms(CANDIDATE, using) if there else {}
    personal = {name: arm for name, arm in sources.items() if name not in plain}
    others = [first, player.start(ReplayPass("popularity", state, there, plain), trained)]
    for name in [it for it in (FRESH, FROZEN) if it in cuts and it != state]:
        arms = {name: Contender(using.product, whole=True)}
        of = ReplayPass(f"with {name} state", name, trained.serves, arms)
        others.append(player.start(of, trained))
    of = ReplayPass("release and personal sources", state, there, {**own, **personal})
    found = {**player.play(of, trained), **player.wait(others)}
    serving = CANDIDATE if trained.serves else BUILT_IN
    for suffix in ("", UNCAPPED):
        found[RELEASED + suffix] = found[serving + suffix]
        if trained.serves:
            del found[CANDIDATE + suffix]
    return found


def _asked(cuts: Mapping[str, Cutoffs]) -> str:
    return LATE if LATE in cuts else FRESH


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
