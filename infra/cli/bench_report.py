"""The bench's report: medians over repeats, the shape of `loop.json`, and the table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from infra.cli.bench_live import Fresh, Reads
from infra.cli.bench_replay import Replay

KIB: Final = 1024
BUSY: Final = 0.1
"""Cores that others may use before it is worth a word."""
PRODUCTION_PARTITIONS: Final = 16
EXACTLY: Final = (
    "freshness_ms",
    "replay_events_per_s",
    "cpu_us_per_event",
    "reads",
    "ratio_to_bare",
    "redis_bytes_per_user",
)
"""The keys that are always there, null where a part was skipped; others come beside them."""


class Figure(NamedTuple):
    """A figure with a floor that must be passed and an aim. `most`: smaller is better."""

    name: str
    floor: float
    aim: float
    most: bool
    unit: str


FIGURES: Final = (
    Figure("replay through people", 30_000, 80_000, False, "events/s"),
    Figure("freshness p99 at 1,000 events/s", 100, 40, True, "ms"),
    Figure("freshness p99 at 5,000 events/s", 250, 60, True, "ms"),
    Figure("reads p95 at 300/s, everything on", 20, 8, True, "ms"),
    Figure("reads, everything on, best rate with p95 < 50 ms", 600, 1_500, False, "requests/s"),
    Figure("Redis per person, median", 2 * KIB, 1.2 * KIB, True, "B"),
    Figure("failed or mixed answers while releases swap", 0, 0, True, ""),
)


class Row(NamedTuple):
    """A line of the table: median, and the least and the most over the repeats."""

    name: str
    floor: str
    aim: str
    measured: str
    noise: str
    ok: str


def report(
    replay: Replay | None, fresh: Mapping[str, Sequence[Fresh]] | None, reads: Reads | None
) -> dict[str, Any]:
    """The whole report but for machine and versions."""
    made: dict[str, Any] = dict.fromkeys(EXACTLY)
    cpu: dict[str, float] = {}
    if replay:
        made["replay_events_per_s"] = round(median(run.events_per_s for run in replay.runs), 1)
        cpu |= _middle([run.cpu_us for run in replay.runs])
        made["replay"] = _replay(replay)
    if fresh:
        made["freshness_ms"] = {
            name: {"p50": _of(runs, lambda it: it.p50), "p99": _of(runs, lambda it: it.p99)}
            for name, runs in fresh.items()
        }
        live = {name: _middle([run.cpu_us for run in runs]) for name, runs in fresh.items()}
        cpu |= {"edge": live["5000"]["edge"], "edge_single": live["1000"]["edge"]}
        made["freshness"] = {name: _fresh(runs, live[name]) for name, runs in fresh.items()}
    if reads:
        made["reads"] = {
            "at_300": {f"{name}_ms": value for name, value in _middle(reads.steady).items()},
            "best": {
                "requests_per_s": _of(reads.best, lambda it: it.reached),
                "p95_ms": _of(reads.best, lambda it: it.p95_ms),
            },
            "bare_route": {"requests_per_s": _of(reads.bare, lambda it: it.reached)},
        }
        best, bare = (made["reads"][name]["requests_per_s"] for name in ("best", "bare_route"))
        made["ratio_to_bare"] = round(best / bare, 4)
        made["redis_bytes_per_user"] = reads.bytes_per_user
        made["redis_bytes_per_user_with_everything"] = reads.all_bytes_per_user
        made["swap"] = reads.swap._asdict()
        made["read_cpu_us_per_request"] = reads.cpu_us
        made["noise"] = {"reads_at_300": reads.steady, "best": _plain(reads.best)}
    made["cpu_us_per_event"] = cpu or None
    return made


def rows(
    replay: Replay | None, fresh: Mapping[str, Sequence[Fresh]] | None, reads: Reads | None
) -> list[Row]:
    """The figures of the parts that ran, in the order of `FIGURES`."""
    measured: list[Sequence[float]] = [
        [run.events_per_s for run in replay.runs] if replay else (),
        [run.p99 for run in fresh["1000"]] if fresh else (),
        [run.p99 for run in fresh["5000"]] if fresh else (),
        [run["p95"] for run in reads.steady] if reads else (),
        [step.reached for step in reads.best] if reads else (),
        [reads.bytes_per_user] if reads else (),
        [reads.swap.errors + reads.swap.mixed] if reads else (),
    ]
    return [_row(it, of) for it, of in zip(FIGURES, measured, strict=True) if of]


def remarks(made: Mapping[str, Any]) -> list[str]:
    """What stands below the table: figures without a floor, and what the others are to be read by."""
    said = []
    if made["replay_events_per_s"]:
        replay = made["replay"]
        said.append(
            f"A bare kafka-python consumer reads the same log at"
            f" {replay['bare_consumer_events_per_s']:,.0f} events/s: replay is"
            f" {replay['share_of_bare_consumer']:.0%} of it."
        )
    if made["cpu_us_per_event"]:
        parts = ", ".join(f"{name} {us:g}" for name, us in made["cpu_us_per_event"].items())
        said.append(f"CPU per event, µs: {parts}.")
    if made["reads"]:
        said.append(
            f"A bare route of the same workers holds"
            f" {made['reads']['bare_route']['requests_per_s']:,.0f} requests/s: reads are"
            f" {made['ratio_to_bare']:.0%} of it."
        )
        swap = made["swap"]
        said.append(
            f"{swap['swaps']} swaps of releases under {swap['requests']:,} reads at 200/s: {swap['errors']}"
            f" errors, {swap['mixed']} of {swap['sampled']:,} answers looked at mixed two, p95"
            f" {swap['p95_ms']:.1f} ms. With vector, impressions and open slates a person takes"
            f" {made['redis_bytes_per_user_with_everything']:,.0f} B."
        )
    if (others := made.get("machine", {}).get("cores_used_by_others") or 0) > BUSY:
        said.append(
            f"Other programs used {others:.1f} cores meanwhile: on a quiet machine figures are better."
        )
    return said


def grade(figure: Figure, value: float) -> str:
    """``aim``, ``floor`` or ``below``: which of its marks a figure reaches."""
    for mark in ("aim", "floor"):
        limit: float = getattr(figure, mark)
        if value <= limit if figure.most else value >= limit:
            return mark
    return "below"


def _row(figure: Figure, of: Sequence[float]) -> Row:
    noise = f"{_number(min(of))} to {_number(max(of))}" if len(of) > 1 else ""
    sign = "≤" if figure.most else "≥"
    return Row(
        f"{figure.name}, {figure.unit}" if figure.unit not in figure.name else figure.name,
        f"{sign} {_number(figure.floor)}",
        f"{sign} {_number(figure.aim)}",
        _number(median(of)),
        noise,
        grade(figure, median(of)),
    )


def _replay(replay: Replay) -> dict[str, Any]:
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


def _fresh(runs: Sequence[Fresh], cpu: Mapping[str, float]) -> dict[str, Any]:
    return {
        "runs": [{"p50": it.p50, "p99": it.p99, "probes": it.probes} for it in runs],
        "post_p99_ms": _of(runs, lambda it: it.post_p99),
        "cpu_us_per_event": dict(cpu),
    }


def _plain(steps: Iterable[Any]) -> list[dict[str, Any]]:
    return [step._asdict() for step in steps]


def _middle(many: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(median(one[name] for one in many), 2) for name in many[0]}


def _of(runs: Sequence[Any], what: Callable[[Any], float]) -> float:
    return round(median(what(run) for run in runs), 3)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
