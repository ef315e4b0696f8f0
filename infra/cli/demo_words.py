"""What the demo's figures mean, in sentences made from the data at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from infra.cli.demo_report import Report
from infra.cli.movielens import Rating
from infra.cli.replay_schedule import Schedule


class Pace(NamedTuple):
    """How people rate. `median_gap`: s between two ratings of a person; `within_minute`: share of
    such gaps up to 60 s; `newcomers` of `people` in the replay have no rating before it."""

    median_gap: float
    within_minute: float
    newcomers: int
    people: int


def pace(schedule: Schedule) -> Pace:
    ratings = [*schedule.history, *(step.rating for step in schedule.steps)]
    gaps = _gaps(ratings)
    before = {it.user_id for it in schedule.history}
    people = {step.rating.user_id for step in schedule.steps}
    return Pace(
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


def flatters(schedule: Schedule, real: bool) -> str:
    """Why fresh looks so good here."""
    if not real:
        return (
            "These people are made up, and made to come in sittings on one theme: the figures show"
            " that the machinery works, not what anybody would feel."
        )
    held = pace(schedule)
    return (
        "MovieLens flatters freshness: ratings are typed in sittings (the median gap between two of"
        f" a person is {held.median_gap:.0f} s, {held.within_minute:.0%} follow within a minute, and"
        f" {held.newcomers} of the {held.people} people replayed have no rating before), so the next"
        " one is largely the next title on the site's own list. The gain shows that the machinery"
        " works, not what a viewer would feel."
    )


def verdict(report: Report) -> str:
    hits = report.hit_rate_at_10
    times = [
        f"{hits['fresh'] / hits[arm]:.1f} times {arm}" for arm in ("popular", "frozen") if hits[arm]
    ]
    same = (
        f"all {report.targets:,} live answers came out the same in process, id by id"
        if report.in_process_equals_live
        else f"{report.in_process_differs} of {report.targets:,} live answers came out different"
        " in process"
    )
    if not times:  # no ratio to nothing
        return f"fresh hits {hits['fresh']:.1%}, popular and frozen nothing; {same}."
    return f"fresh is {' and '.join(times)}; {same}."


def speed(report: Report) -> str:
    fresh, read = report.freshness_ms, report.read_ms
    return (
        f"{report.events:,} events at {report.events_per_s:,.0f}/s; an event is in the next answer"
        f" after {fresh['p50']:.0f} ms (p99 {fresh['p99']:.0f}), a read takes {read['p50']:.1f} ms"
        f" (p95 {read['p95']:.1f}, p99 {read['p99']:.1f}). {errors(report)}"
    )


def errors(report: Report) -> str:
    """How many, of which kinds; a read that failed leaves its target out of the table."""
    if not report.errors:
        return "No errors."
    kinds = ", ".join(f"{kind} ({count:,})" for kind, count in report.errors_by_kind.items())
    return f"{report.errors:,} ERRORS: {kinds}; targets without an answer are not in the table."
