"""The readout of an experiment, from its moments: one function for the topic and the route."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from models.aggregates.moments import MomentRows
from models.experiments.metrics import CONVERSIONS, METRICS, Metric
from models.experiments.ratio import ALPHA, Estimate, lift, ratio_of_moments
from schemas.alphabet import Millis
from schemas.control import Experiment
from schemas.identity import category_hash
from schemas.readouts import Comparison, MetricOut, Readout, VariantOut
from schemas.state.facts import ATTRIBUTION, STATES

METHOD: Final = "delta"


class _Counted(NamedTuple):
    """A variant's moments as plain integers: exact where numpy's would overflow."""

    name: str
    share: float
    units: int
    sums: list[int]
    squares: list[list[int]]

    def estimate(self, metric: Metric) -> Estimate:
        return ratio_of_moments(self.units, self.sums, self.squares, metric.at)


def readout(
    experiment_id: str,
    version: int,
    experiment: Experiment,
    moments: MomentRows,
    positions: Sequence[int],
    revision: int,
    as_of: Millis,
) -> Readout:
    """The readout of version `version`, whose `moments` are as of `positions`; every number finite or None.

    Names and shares are those of `experiment`; a variant that it no longer has is named by its hash, with
    share 0. The first variant is the control of every comparison.
    """
    counted = _counted(experiment, moments)
    return Readout(
        experiment_id=experiment_id,
        version=version,
        placement=experiment.placement,
        revision=revision,
        positions=tuple(positions),
        as_of=as_of,
        variants=tuple(_variant(it) for it in counted),
        comparisons=tuple(
            _comparison(metric, counted[0], other) for metric in METRICS for other in counted[1:]
        ),
    )


def version_shown(in_force: int, running: bool, counted: Collection[int]) -> int:
    """The version whose readout is shown: the one in force while the experiment runs; else the newest in
    `counted`, those with people in them, since pausing makes a version too.

    >>> version_shown(3, False, {1, 2}), version_shown(3, True, {1, 2}), version_shown(1, False, ())
    (2, 3, 1)
    """
    return in_force if running or not counted else max(counted)


def _counted(experiment: Experiment, moments: MomentRows) -> list[_Counted]:
    rows: dict[int, Any] = {row["variant"].item(): row for row in moments}
    named = {category_hash(it.name): (it.name, it.share) for it in experiment.variants}
    gone = {number: (f"#{number:08x}", 0.0) for number in rows if number not in named}
    return [_counts_of(name, share, rows.get(n)) for n, (name, share) in {**named, **gone}.items()]


def _counts_of(name: str, share: float, row: Any) -> _Counted:
    if row is None:
        none = [0] * len(STATES)
        return _Counted(name, share, 0, none, [none] * len(STATES))
    return _Counted(name, share, int(row["units"]), row["sums"].tolist(), row["squares"].tolist())


def _variant(counted: _Counted) -> VariantOut:
    sums = dict(zip(STATES, counted.sums, strict=True))
    attribution = {name: sums[state] for name, state in ATTRIBUTION.items()}
    shown = {state: n for state, n in sums.items() if state not in CONVERSIONS}
    return VariantOut(
        variant=counted.name,
        share=counted.share,
        units=counted.units,
        counts={**shown, "converted": sum(attribution.values())},
        attribution=attribution,
        metrics={metric.name: _metric(metric, counted) for metric in METRICS},
    )


def _metric(metric: Metric, counted: _Counted) -> MetricOut:
    found, (ys, x) = counted.estimate(metric), metric.at
    return MetricOut(
        value=found.value,
        ci=found.interval(),
        numerator=sum(counted.sums[y] for y in ys),
        denominator=counted.sums[x],
    )


def _comparison(metric: Metric, control: _Counted, treatment: _Counted) -> Comparison:
    found = lift(control.estimate(metric), treatment.estimate(metric))
    return Comparison(
        metric=metric.name,
        control=control.name,
        treatment=treatment.name,
        lift=found.value,
        ci=found.interval(least=-1.0),
        alpha=ALPHA,
        method=METHOD,
    )
