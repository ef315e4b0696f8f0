"""Sentences about the demo's figures, made from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from infra.apps.demo.experiment import CONTROL, TREATMENT
from infra.apps.demo.figures import Experiment
from infra.apps.demo.report import Report
from infra.apps.demo.schedule import Schedule
from infra.apps.demo.train import Trained
from infra.datasets.movielens import Rating
from models.kernels.loading import kernel

BEFORE_CROWD: Final = (
    "{count:,} simulated people, whose tastes the system does not know, use it for {seconds:g} s: half of"
    " them see popular items, half personal ones."
)


class RatingPace(NamedTuple):
    """The pace of ratings. `median_gap`: s between two ratings of a person; `within_minute`: share of gaps up
    to 60 s; `newcomers`: of the `people` in the replay, those without a rating before it."""

    median_gap: float
    within_minute: float
    newcomers: int
    people: int


def pace(schedule: Schedule) -> RatingPace:
    ratings = [*schedule.history, *(step.rating for step in schedule.steps)]
    gaps = _gaps(ratings)
    before = {it.user_id for it in schedule.history}
    people = {step.rating.user_id for step in schedule.steps}
    return RatingPace(
        float(np.median(gaps)) if len(gaps) else 0.0,
        float(np.mean(gaps <= 60)) if len(gaps) else 0.0,
        len(people - before),
        len(people),
    )


def _gaps(ratings: Sequence[Rating]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    last: dict[str, int] = {}
    gaps = []
    for rating in ratings:
        if rating.user_id in last:
            gaps.append((rating.at - last[rating.user_id]) / 1000)
        last[rating.user_id] = rating.at
    return np.array(gaps)


def caveat(schedule: Schedule, real: bool) -> str:
    """A sentence on why the data favour fresh state."""
    if not real:
        return (
            "These people are generated, and they come in sittings on one theme: the figures show that the"
            " system works, not what a viewer would feel."
        )
    held = pace(schedule)
    return (
        "MovieLens favours freshness: ratings are typed in sittings (the median gap between two of"
        f" a person is {held.median_gap:.0f} s, {held.within_minute:.0%} follow within a minute, and"
        f" {held.newcomers} of the {held.people} people replayed have no rating before), so the next"
        " one is largely the next title on the site's own list. The gain shows that the system"
        " works, not what a viewer would feel."
    )


def verdict(report: Report) -> str:
    hits = report.hit_rate_at_10
    times = [
        f"{hits['fresh'] / hits[arm]:.1f} times {arm}" for arm in ("popular", "frozen") if hits[arm]
    ]
    ways = ", by kernel and by Python" if kernel is not None else ""
    same = (
        f"all {report.targets:,} live answers are the same in process{ways}, id by id"
        if report.in_process_equals_live
        else f"{report.in_process_differs} of {report.targets:,} live answers are different"
        " in process"
    )
    if not times:  # no ratio to 0
        return f"fresh hits {hits['fresh']:.1%}, popular and frozen 0; {same}."
    return f"fresh is {' and '.join(times)}; {same}."


def release(report: Report) -> str:
    """A sentence that compares the release with the same system without it."""
    trained, hits, gains = report.release, report.hit_rate_at_10, report.ndcg_at_10
    if trained is not None and trained.kept:
        serving = f"{trained.id} serves" if trained.id else "the built-in recipes serve"
        return f"Release {trained.kept} is kept, and {serving}: {_of_rival(trained)}."
    if trained is None or not trained.id:
        return "There is no release: the built-in recipes serve."
    word = "LOSES" if gains["fresh"] < gains["untrained"] else "holds"
    without = (
        "" if trained.ranker == "released" else " It has no ranker, since the ranker was refused."
    )
    return (
        f"Release {trained.id} {word} on this sample: NDCG@10 {gains['fresh']:.4f} against"
        f" {gains['untrained']:.4f} without it, HR@10 {hits['fresh']:.4f} against"
        f" {hits['untrained']:.4f}; on {trained.judged:,} choices held out {_of_rival(trained)}.{without}"
    )


def _of_rival(trained: Trained) -> str:
    """Its NDCG over that of the rival that decided, with the interval."""
    ratio, lower, upper = trained.ratio
    if ratio is None or lower is None or upper is None:
        return "it has no ratio to the best rival"
    return f"it has {ratio:.3f} of the best rival's NDCG (95 %: {lower:.3f} to {upper:.3f})"


def speed(report: Report) -> str:
    fresh, read = report.freshness_ms, report.read_ms
    return (
        f"{report.events:,} events at {report.events_per_s:,.0f}/s; an event is in the next answer"
        f" after {fresh['p50']:.0f} ms (p99 {fresh['p99']:.0f}), a read takes {read['p50']:.1f} ms"
        f" (p95 {read['p95']:.1f}, p99 {read['p99']:.1f}). {errors(report)}"
    )


def errors(report: Report) -> str:
    """A sentence with the errors by kind. The table omits targets whose read failed."""
    listed = _errors(report.errors_by_kind)
    return f"{listed} Targets without an answer are not in the table." if report.errors else listed


def _errors(kinds: Mapping[str, int]) -> str:
    if not kinds:
        return "No errors."
    listed = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.items())
    return f"{sum(kinds.values()):,} ERRORS: {listed}."


def crowd(report: Report) -> list[str]:
    """Sentences about the experiment, also where it shows nothing."""
    experiment, people = report.experiment, report.population
    if experiment is None or people is None:
        return []
    fresh = people.freshness_ms
    return [
        winner(experiment),
        counts(experiment),
        f"{people.slates:,} slates at {people.slates_per_s:,.0f}/s, {people.events:,} events at"
        f" {people.events_per_s:,.0f}/s; a click was in the next slate after {fresh['p50']:.0f} ms"
        f" (p99 {fresh['p99']:.0f}). They were shown {report.coverage or 0:.0%} of the catalogue;"
        f" exploration drew {report.explored_share or 0:.1%} of all slots. {_errors(people.errors_by_kind)}",
        interval_check(experiment),
    ]


def winner(experiment: Experiment) -> str:
    if experiment.lift is None or experiment.lift_ci is None:
        return "The experiment has no lift: too few people acted."
    low, high = experiment.lift_ci
    between = f"{experiment.lift:+.0%} clicks a slot (95 %: {low:+.0%} to {high:+.0%})"
    truly = (
        "" if experiment.true_lift is None else f"; its true lift is {experiment.true_lift:+.0%}"
    )
    if low > 0:
        return f"{TREATMENT} beats {CONTROL}: {between}{truly}."
    if high < 0:
        return f"{TREATMENT} LOSES to {CONTROL} here: {between}{truly}."
    return f"So few clicks do not separate {TREATMENT} from {CONTROL}: {between}{truly}."


def interval_check(experiment: Experiment) -> str:
    """A sentence on what these figures show."""
    spans = [(it.ci, it.true_ctr) for it in experiment.variants] + [
        (experiment.lift_ci, experiment.true_lift)
    ]
    inside = all(ci and truth is not None and ci[0] <= truth <= ci[1] for ci, truth in spans)
    level = "The level of these rates is the simulator's and means nothing;"
    if inside:
        return (
            f"{level} the true ones lie in their intervals, so the experiment measures correctly."
        )
    return f"{level} NOT all true ones lie in their intervals: by chance one in twenty does not."


def counts(experiment: Experiment) -> str:
    if experiment.counts_match:
        served, clicked = (
            sum(getattr(it, state) for it in experiment.variants) for state in ("served", "clicked")
        )
        return (
            f"What the API counted is what was sent, slot by slot: {served:,} served,"
            f" {clicked:,} clicked."
        )
    differ = [
        f"{arm.variant} {state}: {getattr(arm, state):,} counted, {sent:,} sent"
        for arm in experiment.variants
        for state, sent in experiment.sent[arm.variant].items()
        if getattr(arm, state) != sent
    ]
    return f"What the API counted is NOT what was sent: {'; '.join(differ)}."
