"""The figures of the simulated people and of their experiment, for the report."""

from __future__ import annotations

import msgspec

from infra.apps.demo import experiment as demo_experiment
from infra.apps.demo.experiment import CONTROL, TREATMENT
from infra.apps.demo.numbers import percentiles
from infra.apps.demo.seen import Seen
from infra.client.answers import ExperimentMetrics


class Arm(msgspec.Struct, kw_only=True):
    """One variant: `units` are people, the counts are slots, `ctr` and its 95 % interval `ci` are the
    API's; `true_ctr` is the expected rate by the true tastes."""

    variant: str
    units: int
    served: int
    displayed: int
    clicked: int
    converted: int
    ctr: float | None
    ci: tuple[float, float] | None
    true_ctr: float


class Experiment(msgspec.Struct, kw_only=True):
    """`lift`: of the treatment over the control, relative, by the API; `true_lift`: by the true tastes.

    `sent`: by variant and state, the slots that were answered or reported, as the people counted them
    themselves; `counts_match`: the API counted exactly these (more where other clients read for them).
    """

    id: str
    version: int
    variants: list[Arm]
    lift: float | None
    lift_ci: tuple[float, float] | None
    true_lift: float | None
    sent: dict[str, dict[str, int]]
    counts_match: bool


class Population(msgspec.Struct, kw_only=True):
    """`events` are those that were acknowledged; `freshness_ms`: from a click's first byte to the end
    of a slate that includes it."""

    people: int
    seconds: float
    slates: int
    events: int
    slates_per_s: float
    events_per_s: float
    errors: int
    errors_by_kind: dict[str, int]
    freshness_ms: dict[str, float]
    true_ctr: dict[str, float]


def experiment(seen: Seen, metrics: ExperimentMetrics, counts_match: bool) -> Experiment:
    truth = {name: seen.variants[name].true_ctr for name in (CONTROL, TREATMENT)}
    lift = demo_experiment.lift(metrics)
    return Experiment(
        id=demo_experiment.EXPERIMENT_ID,
        version=metrics.version,
        variants=[_arm(name, metrics, truth[name]) for name in (CONTROL, TREATMENT)],
        lift=lift.value,
        lift_ci=lift.ci,
        true_lift=truth[TREATMENT] / truth[CONTROL] - 1 if truth[CONTROL] else None,
        sent={name: seen.variants[name].states for name in (CONTROL, TREATMENT)},
        counts_match=counts_match,
    )


def _arm(name: str, metrics: ExperimentMetrics, true_ctr: float) -> Arm:
    held = demo_experiment.variant(metrics, name)
    ctr = demo_experiment.ctr(held)
    return Arm(
        variant=name,
        units=held.units,
        served=held.counts.get("served", 0),
        displayed=held.counts.get("displayed", 0),
        clicked=held.counts.get("clicked", 0),
        converted=held.counts.get("converted", 0),
        ctr=ctr.value,
        ci=ctr.ci,
        true_ctr=true_ctr,
    )


def population(seen: Seen) -> Population:
    return Population(
        people=seen.people,
        seconds=seen.seconds,
        slates=seen.slates,
        events=seen.events,
        slates_per_s=round(seen.slates / seen.seconds, 1),
        events_per_s=round(seen.events / seen.seconds, 1),
        errors=seen.errors.total(),
        errors_by_kind=dict(seen.errors),
        freshness_ms=percentiles(seen.freshness_ms, 50, 99),
        true_ctr={name: seen.variants[name].true_ctr for name in (CONTROL, TREATMENT)},
    )
