"""The demo's experiment: popularity against the personal list, run and counted by the API."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, NamedTuple

from infra.apps.demo.wait import everywhere
from infra.client.answers import ExperimentMetrics
from infra.client.client import Client
from infra.client.errors import ApiError
from schemas.control import Experiment, Variant
from schemas.errors import FreshetError
from schemas.readouts import MetricOut, VariantOut

EXPERIMENT_ID: Final = "home-ranker"
CONTROL: Final = "popularity"
TREATMENT: Final = "personal"
EXPERIMENT: Final = Experiment(
    placement="home",
    variants=(
        Variant(name=CONTROL, share=0.5, placement="popular"),
        Variant(name=TREATMENT, share=0.5),
    ),
)
SETTLE_SECONDS: Final = 20.0
"""s that the flows may take to catch up."""
CTR: Final = "ctr"
NO_METRICS: Final = ExperimentMetrics(version=0, variants=(), comparisons=())
"""Metrics before the API has any."""


class NoExperiment(FreshetError):
    """The API refused the experiment; the text has its answer."""


class Lift(NamedTuple):
    """`value`: relative, as a share; None where it cannot be estimated."""

    value: float | None
    ci: tuple[float, float] | None


def variant(metrics: ExperimentMetrics, name: str) -> VariantOut:
    """The variant `name`; one without people where the API does not list it."""
    empty = VariantOut(variant=name, share=0.0, units=0, counts={}, metrics={})
    return next((it for it in metrics.variants if it.variant == name), empty)


def ctr(held: VariantOut) -> MetricOut:
    nothing = MetricOut(value=None, ci=None, numerator=0, denominator=0)
    return held.metrics.get(CTR, nothing)


def lift(metrics: ExperimentMetrics) -> Lift:
    """The lift of the click rate, treatment over control."""
    found = (it for it in metrics.comparisons if (it.metric, it.treatment) == (CTR, TREATMENT))
    return next((Lift(it.lift, it.ci) for it in found), Lift(None, None))


async def start(url: str, token: str) -> None:
    """Puts the experiment, and returns when every worker has it. Errors: `NoExperiment`,
    `NotEverywhere`, `ApiError`."""
    async with Client(url, token, connections=1) as client:
        try:
            await client.put_experiment(EXPERIMENT_ID, EXPERIMENT)
        except ApiError as error:
            raise NoExperiment(f"experiment {EXPERIMENT_ID} was refused: {error}") from None
    await everywhere(url, token, _in_force, f"experiment {EXPERIMENT_ID}")


async def _in_force(client: Client) -> bool:
    await client.experiment(EXPERIMENT_ID)
    return True


async def read_metrics(client: Client) -> ExperimentMetrics:
    """The metrics of the experiment; `NO_METRICS` where there are none yet, or no answer."""
    try:
        return await client.metrics(EXPERIMENT_ID)
    except ApiError:
        return NO_METRICS


async def settled(
    client: Client, sent: dict[str, dict[str, int]]
) -> tuple[ExperimentMetrics, bool]:
    """The metrics once the API has counted `sent` (variant -> state -> slots), else the last ones; and
    whether it counted exactly that."""
    until, metrics = time.monotonic() + SETTLE_SECONDS, NO_METRICS
    while True:
        with contextlib.suppress(ApiError):
            metrics = await client.metrics(EXPERIMENT_ID)
        if counted(metrics, sent):
            return metrics, True
        if time.monotonic() > until:
            return metrics, False
        await asyncio.sleep(0.1)


def counted(metrics: ExperimentMetrics, sent: dict[str, dict[str, int]]) -> bool:
    """Whether the API counted what was sent, by variant and state; False where nothing was sent."""
    return bool(sent) and all(
        variant(metrics, name).counts.get(state, 0) == slots
        for name, states in sent.items()
        for state, slots in states.items()
    )
