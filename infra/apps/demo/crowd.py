"""The demo's second half: simulated people, whose tastes are known, in an experiment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import uvloop

from infra.apps.demo import experiment, figures, panel
from infra.apps.demo import history as demo_import
from infra.apps.demo.audience import PICKS_PER_PERSON, Audience
from infra.apps.demo.numbers import settle_heap
from infra.apps.demo.population import act
from infra.apps.demo.report import Report
from infra.apps.demo.seen import Seen
from infra.client import history
from infra.client.answers import ExperimentMetrics
from infra.client.client import Client
from infra.datasets.movielens import Dataset

if TYPE_CHECKING:
    from infra.local.system import System
    from infra.terminal.progress import Reporter

SEED: Final = 20_26


class Crowd(NamedTuple):
    """`metrics`: what the API says of the experiment at the end; `match`: whether it counted exactly
    what was sent."""

    seen: Seen
    metrics: ExperimentMetrics
    match: bool


def live(system: System, dataset: Dataset, count: int, seconds: float, reporter: Reporter) -> Crowd:
    """Runs `count` simulated people for `seconds`. Errors: `NotSent`, `NoExperiment`."""
    url, token = system.url, system.token
    with reporter.work(
        "make simulated people, and send their history", count * PICKS_PER_PERSON
    ) as progress:
        audience = Audience(dataset, count, SEED)
        lines = audience.history(int(time.time() * 1000))
        demo_import.check_accepted(
            history.send(url, history.EVENTS, lines, token=token, progress=progress)
        )
        demo_import.settle(system)
    uvloop.run(experiment.start(url, token))
    settle_heap()

    async def watch(client: Client, seen: Seen) -> None:
        await panel.watch(client, seen, reporter)

    async def lives() -> Crowd:
        seen = await act(url, token, audience, seconds, SEED, watch)
        sent = {name: tally.states for name, tally in seen.variants.items() if name}
        async with Client(url, token, connections=1) as client:
            metrics, match = await experiment.settled(client, sent)
        return Crowd(seen, metrics, match)

    return uvloop.run(lives())


def add(report: Report, crowd: Crowd) -> None:
    """Adds the outcome to the report."""
    report.experiment = figures.experiment(crowd.seen, crowd.metrics, crowd.match)
    report.ctr = {arm.variant: arm.ctr for arm in report.experiment.variants}
    report.explored_share = round(crowd.seen.explored_share, 4)
    report.coverage = round(crowd.seen.coverage, 4)
    report.population = figures.population(crowd.seen)
    report.errors += crowd.seen.errors.total()
    for kind, number in crowd.seen.errors.items():
        report.errors_by_kind[kind] = report.errors_by_kind.get(kind, 0) + number
