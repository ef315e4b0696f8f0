"""One evaluation: a plan, a release trained on the history, the replay of all arms, their figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from infra.apps.evaluate import recent
from infra.apps.evaluate.candidate import UNTRAINED, Candidate, candidate
from infra.apps.evaluate.figures import WITH_INTERVALS, Figures, rounded
from infra.apps.evaluate.ground import ground
from infra.apps.evaluate.judged_result import judged_result
from infra.apps.evaluate.passes import answers, cutoffs, first_pass, judged_scores
from infra.apps.evaluate.player import PARTITIONS, Player, ReplayFold
from infra.apps.evaluate.protocols import delays, judged, leave_one_out, prequential
from infra.apps.evaluate.protocols.delays import Delay
from infra.apps.evaluate.protocols.plan import EvaluationPlan, Options
from infra.apps.evaluate.replay import BUILT_IN, CANDIDATE
from infra.apps.evaluate.result import result
from infra.datasets.acts import Acts
from infra.settings import Settings

if TYPE_CHECKING:
    from infra.terminal.progress import Reporter

_PLANS: Final = {
    "prequential": prequential.plan,
    "leave-one-out": leave_one_out.plan,
    "judged": judged.plan,
}


class Evaluation(NamedTuple):
    """What is asked for. `delay` None: state is fresh. `seeds`: one evaluation by each, beside the seed of
    `options`."""

    name: str
    options: Options
    delay: Delay | None = None
    seeds: tuple[int, ...] = ()


def plan(acts: Acts, asked: Evaluation) -> EvaluationPlan:
    """Errors: `CannotEvaluate`."""
    made = _PLANS[asked.options.protocol](acts, asked.options)
    if asked.delay is not None:
        delays.check(asked.delay, made)
    return made


def evaluate(acts: Acts, asked: Evaluation, settings: Settings, reporter: Reporter) -> Figures:
    """The result, as JSON has it. Errors: `CannotEvaluate`."""
    began = time.monotonic()
    settings = msgspec.structs.replace(settings, partitions=PARTITIONS)
    planned = plan(acts, asked)

    def train() -> Candidate:
        return candidate(planned.history, settings, reporter)

    found = evaluate_release(acts, planned, asked, train, settings, reporter)
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def evaluate_release(
    acts: Acts,
    planned: EvaluationPlan,
    asked: Evaluation,
    train: Callable[[], Candidate],
    settings: Settings,
    reporter: Reporter,
) -> Figures:
    """The same of the release that `train` gives. `settings`: with `PARTITIONS`."""
    options = asked.options
    figures, trained = replayed(planned, asked, train, settings, reporter)
    made: Figures = {
        "data": asked.name,
        "protocol": options.protocol,
        "delay": asked.delay.text if asked.delay else None,
        "seen": options.seen,
        "seed": options.seed,
        **figures,
        "served": CANDIDATE if trained.serves else BUILT_IN,
        "gate": trained.gate,
        "layout": acts.layout,
        "clock": acts.clock,
        "acts": len(acts.time),
        "items": len(acts.items),
        "history": len(planned.history.time),
        "excluded": dict(+planned.excluded),
        "dropped": dict(acts.dropped),
        "notes": dict(acts.notes.texts),
    }
    if asked.seeds:
        made["seeds"] = _over_seeds(acts, asked, trained, settings, reporter)
    return made


def replayed(
    planned: EvaluationPlan,
    asked: Evaluation,
    train: Callable[[], Candidate],
    settings: Settings,
    reporter: Reporter,
) -> tuple[Figures, Candidate]:
    """The figures of one plan, and what `train` gave."""
    seed, seen = asked.options.seed, asked.options.seen
    window, cuts = recent.window(planned.history, seed), cutoffs(planned, asked.delay)
    with Player(ReplayFold(planned, cuts, settings), reporter) as player:
        if planned.protocol == "judged":
            trained = train()
            scores = judged_scores(player.replay, planned, trained, seen, reporter)
            return judged_result(planned, scores, window, seed), trained
        first = player.start(first_pass(cuts, seen), UNTRAINED)
        trained = train()
        found = answers(player, first, trained, cuts, seen)
        return result(found, ground(planned, player.replay.world), window, seed), trained


def _over_seeds(
    acts: Acts, asked: Evaluation, trained: Candidate, settings: Settings, reporter: Reporter
) -> Figures:
    """Mean and standard deviation of HR and NDCG over the seeds, by arm. No seed changes the history, so all
    have the one release."""
    runs = []
    for seed in asked.seeds:
        each = asked._replace(options=asked.options._replace(seed=seed))
        runs.append(replayed(plan(acts, each), each, lambda: trained, settings, reporter)[0])
    arms = {"released": [it["released"] for it in runs], BUILT_IN: [it[BUILT_IN] for it in runs]}
    for name in runs[0]["sources"]:
        arms[name] = [it["sources"][name] for it in runs]
    return {
        "seeds": list(asked.seeds),
        **{
            name: {
                f"{metric}_{word}": rounded(float(of([it[metric] for it in figures])))
                for metric in WITH_INTERVALS
                for word, of in (("mean", np.mean), ("sd", np.std))
            }
            for name, figures in arms.items()
        },
    }
