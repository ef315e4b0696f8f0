"""What the bench says of replay, lake and rebuild: they were taken in turn, on one log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from infra.apps.bench.figures import LAKE, REBUILD, REPLAY, TIMES, Row, row
from infra.apps.bench.replay import ReplayFigures
from infra.apps.bench.rounds import Turns


def report(turns: Turns) -> dict[str, Any]:
    """By part, those that ran."""
    made: dict[str, Any] = {"replay": _replay(turns.replay)}
    if turns.lake:
        made["lake"] = _lake(turns)
    if turns.rebuild:
        made["rebuild"] = _rebuild(turns)
    return made


def rows(turns: Turns) -> Iterator[Row]:
    made = report(turns)
    alone = [run.events_per_s for run in turns.replay.runs]
    yield row(REPLAY, alone)
    if turns.lake:
        beside = [it.events_per_s for it in turns.lake]
        each = [_cost(one, other) for one, other in zip(alone, beside, strict=True)]
        yield row(LAKE, each, made["lake"]["cost_percent"])
    if turns.rebuild:
        told = made["rebuild"]
        figure = REBUILD._replace(
            name=f"{REBUILD.name} ({told['times_live_replay']:.1f} x the live replay,"
            f" {told['share_of_reading']:.0%} of reading alone)",
            floor=TIMES * median(alone),
        )
        yield row(figure, [it.events_per_s for it in turns.rebuild])


def remarks(made: Mapping[str, Any]) -> Iterator[str]:
    """Of `report`."""
    replay = made["replay"]
    yield (
        f"A bare kafka-python consumer reads the same log at"
        f" {replay['bare_consumer_events_per_s']:,.0f} events/s: replay is"
        f" {replay['share_of_bare_consumer']:.0%} of it."
    )
    if "lake" in made:
        told = made["lake"]
        yield (
            f"With the lake's writing beside it a replay does {told['events_per_s']['beside']:,.0f}"
            f" events/s instead of {told['events_per_s']['alone']:,.0f}; by its end"
            f" {told['written_by_then']:.0%} of the log lies in the lake."
        )
    if "rebuild" in made:
        told = made["rebuild"]
        yield (
            f"Reading the lake alone, in one process, does {told['reading_events_per_s']:,.0f} events/s."
            f" A rebuild's first batch is folded after {told['start_s']:.1f} s; of the rest filling Redis"
            f" takes {told['fill_s']:.1f} s."
        )


def _replay(replay: ReplayFigures) -> dict[str, Any]:
    rate, bare = median(it.events_per_s for it in replay.runs), median(replay.ceiling)
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


def _lake(turns: Turns) -> dict[str, Any]:
    alone = median(it.events_per_s for it in turns.replay.runs)
    beside = median(it.events_per_s for it in turns.lake)
    return {
        "cost_percent": round(_cost(alone, beside), 2),
        "events_per_s": {"alone": round(alone, 1), "beside": round(beside, 1)},
        "runs": [round(it.events_per_s, 1) for it in turns.lake],
        "written_by_then": round(median(it.written for it in turns.lake), 4),
    }


def _rebuild(turns: Turns) -> dict[str, Any]:
    live = median(it.events_per_s for it in turns.replay.runs)
    rate, reading = (
        median(it.events_per_s for it in turns.rebuild),
        median(it.reading for it in turns.rebuild),
    )
    return {
        "events_per_s": round(rate, 1),
        "times_live_replay": round(rate / live, 3),
        "reading_events_per_s": round(reading, 1),
        "share_of_reading": round(rate / reading, 4),
        "runs": [round(it.events_per_s, 1) for it in turns.rebuild],
        "start_s": round(median(it.start_s for it in turns.rebuild), 3),
        "fill_s": round(median(it.fill_s for it in turns.rebuild), 3),
        "exact": True,
    }


def _cost(alone: float, beside: float) -> float:
    """What of a rate is lost, in %."""
    return 100 * (1 - beside / alone)
