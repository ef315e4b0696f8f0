"""The report on replay, lake and rebuild, which were measured in rounds on one log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from infra.apps.bench.figures import LAKE, MIN_REBUILD_SPEEDUP, REBUILD, REPLAY, Row, row
from infra.apps.bench.replay import ReplayFigures
from infra.apps.bench.rounds import Rounds


def report(rounds: Rounds) -> dict[str, Any]:
    """By benchmark, those that ran."""
    made: dict[str, Any] = {"replay": _replay(rounds.replay)}
    if rounds.lake:
        made["lake"] = _lake(rounds)
    if rounds.rebuild:
        made["rebuild"] = _rebuild(rounds)
    return made


def rows(rounds: Rounds) -> Iterator[Row]:
    made = report(rounds)
    alone = [run.events_per_s for run in rounds.replay.runs]
    yield row(REPLAY, alone)
    if rounds.lake:
        beside = [it.events_per_s for it in rounds.lake]
        each = [_cost(one, other) for one, other in zip(alone, beside, strict=True)]
        yield row(LAKE, each, made["lake"]["cost_percent"])
    if rounds.rebuild:
        rebuild = made["rebuild"]
        figure = REBUILD._replace(
            name=f"{REBUILD.name} ({rebuild['times_live_replay']:.1f} x the live replay,"
            f" {rebuild['share_of_reading']:.0%} of reading alone)",
            floor=MIN_REBUILD_SPEEDUP * median(alone),
        )
        yield row(figure, [it.events_per_s for it in rounds.rebuild])


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about what `report` gave."""
    replay = report["replay"]
    yield (
        f"A bare kafka-python consumer reads the same log at"
        f" {replay['bare_consumer_events_per_s']:,.0f} events/s: replay is"
        f" {replay['share_of_bare_consumer']:.0%} of it."
    )
    if "lake" in report:
        lake = report["lake"]
        yield (
            f"With the lake's writing beside it a replay does {lake['events_per_s']['beside']:,.0f}"
            f" events/s instead of {lake['events_per_s']['alone']:,.0f}; by its end"
            f" {lake['written_by_then']:.0%} of the log lies in the lake."
        )
    if "rebuild" in report:
        rebuild = report["rebuild"]
        yield (
            f"Reading the lake alone, in one process, does {rebuild['reading_events_per_s']:,.0f} events/s."
            f" A rebuild's first batch is folded after {rebuild['start_s']:.1f} s; of the rest filling Redis"
            f" takes {rebuild['fill_s']:.1f} s."
        )


def _replay(replay: ReplayFigures) -> dict[str, Any]:
    rate = median(it.events_per_s for it in replay.runs)
    bare = median(it.records_per_s for it in replay.ceiling)
    return {
        "runs": [round(it.events_per_s, 1) for it in replay.runs],
        "bare_consumer_events_per_s": round(bare, 1),
        "share_of_bare_consumer": round(rate / bare, 4),
        "exact": True,
        "records": replay.log.records,
        "distinct_events": replay.log.distinct,
        "people": replay.log.people,
        "bytes_per_event": round(replay.log.bytes / replay.log.records, 1),
        "workers": 1,
    }


def _lake(rounds: Rounds) -> dict[str, Any]:
    alone = median(it.events_per_s for it in rounds.replay.runs)
    beside = median(it.events_per_s for it in rounds.lake)
    return {
        "cost_percent": round(_cost(alone, beside), 2),
        "events_per_s": {"alone": round(alone, 1), "beside": round(beside, 1)},
        "runs": [round(it.events_per_s, 1) for it in rounds.lake],
        "written_by_then": round(median(it.written for it in rounds.lake), 4),
    }


def _rebuild(rounds: Rounds) -> dict[str, Any]:
    live = median(it.events_per_s for it in rounds.replay.runs)
    rate, reading = (
        median(it.events_per_s for it in rounds.rebuild),
        median(it.reading for it in rounds.rebuild),
    )
    return {
        "events_per_s": round(rate, 1),
        "times_live_replay": round(rate / live, 3),
        "reading_events_per_s": round(reading, 1),
        "share_of_reading": round(rate / reading, 4),
        "runs": [round(it.events_per_s, 1) for it in rounds.rebuild],
        "start_s": round(median(it.start_s for it in rounds.rebuild), 3),
        "fill_s": round(median(it.fill_s for it in rounds.rebuild), 3),
        "exact": True,
    }


def _cost(alone: float, beside: float) -> float:
    """The loss of a rate, in %."""
    return 100 * (1 - beside / alone)
