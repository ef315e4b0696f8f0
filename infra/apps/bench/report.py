"""The bench's report: medians over repeats, the shape of `loop.json`, and the table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from infra.apps.bench import report_rounds
from infra.apps.bench.figures import FIGURES, VERIFY, Row, row
from infra.apps.bench.imports import Imports
from infra.apps.bench.live import Fresh, Reads
from infra.apps.bench.rounds import Rounds
from infra.apps.bench.verify import Verified

BUSY_CORES: Final = 0.1
"""Cores that other programs may use before the report mentions them."""
PRODUCTION_PARTITIONS: Final = 16
REQUIRED_KEYS: Final = (
    "freshness_ms",
    "replay_events_per_s",
    "cpu_us_per_event",
    "reads",
    "ratio_to_bare",
    "redis_bytes_per_user",
)
"""Keys that the report always has, null where a benchmark was skipped."""


class Results(NamedTuple):
    """All measurements; None where a benchmark was skipped."""

    rounds: Rounds | None = None
    verified: Sequence[Verified] | None = None
    fresh: Mapping[str, Sequence[Fresh]] | None = None
    reads: Reads | None = None
    imports: Imports | None = None


def report(results: Results) -> dict[str, Any]:
    """The whole report except machine and versions."""
    rounds, verified, fresh, reads, imports = results
    made: dict[str, Any] = dict.fromkeys(REQUIRED_KEYS)
    cpu: dict[str, float] = {}
    if rounds:
        runs_ = rounds.replay.runs
        made["replay_events_per_s"] = round(median(run.events_per_s for run in runs_), 1)
        cpu |= _medians([run.cpu_us for run in runs_])
        made |= report_rounds.report(rounds)
    if verified:
        made["verify"] = _verify(verified)
    if fresh:
        made["freshness_ms"] = {
            name: {"p50": _median(runs, lambda it: it.p50), "p99": _median(runs, lambda it: it.p99)}
            for name, runs in fresh.items()
        }
        live = {name: _medians([run.cpu_us for run in runs]) for name, runs in fresh.items()}
        cpu |= {"edge": live["5000"]["edge"], "edge_single": live["1000"]["edge"]}
        made["freshness"] = {name: _fresh(runs, live[name]) for name, runs in fresh.items()}
    if reads:
        made["reads"] = {
            "at_300": {f"{name}_ms": value for name, value in _medians(reads.steady).items()},
            "best": {
                "requests_per_s": _median(reads.best, lambda it: it.reached),
                "p95_ms": _median(reads.best, lambda it: it.p95_ms),
            },
            "bare_route": {"requests_per_s": _median(reads.bare, lambda it: it.reached)},
        }
        best, bare = (made["reads"][name]["requests_per_s"] for name in ("best", "bare_route"))
        made["ratio_to_bare"] = round(best / bare, 4)
        made["redis_bytes_per_user"] = reads.bytes_per_user
        made["redis_bytes_per_user_with_everything"] = reads.all_bytes_per_user
        made["swap"] = reads.swap._asdict()
        made["read_cpu_us_per_request"] = reads.cpu_us
        made["noise"] = {"reads_at_300": reads.steady, "best": _plain(reads.best)}
    if imports:
        made["import"] = _imports(imports)
    made["cpu_us_per_event"] = cpu or None
    return made


def rows(results: Results) -> list[Row]:
    """The figures of the benchmarks that ran, in the order of `FIGURES`."""
    rounds, verified, fresh, reads, imports = results
    lines = list(report_rounds.rows(rounds)) if rounds else []
    if verified:
        lines.append(row(VERIFY, [run.events_per_s for run in verified]))
    measured: list[Sequence[float]] = [
        [run.p99 for run in fresh["1000"]] if fresh else (),
        [run.p99 for run in fresh["5000"]] if fresh else (),
        [run["p95"] for run in reads.steady] if reads else (),
        [step.reached for step in reads.best] if reads else (),
        [reads.bytes_per_user] if reads else (),
        [reads.swap.errors + reads.swap.mixed] if reads else (),
        [100 * it.first / it.bare for it in imports.runs] if imports else (),
        [100 * it.again / it.bare for it in imports.runs] if imports else (),
        [imports.memory_bytes / 1e6] if imports else (),
    ]
    figures = FIGURES[FIGURES.index(VERIFY) + 1 :]
    return lines + [row(it, of) for it, of in zip(figures, measured, strict=True) if of]


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Sentences below the table: figures without a floor, and context for the others."""
    said: list[str] = []
    if report["replay_events_per_s"]:
        said += report_rounds.remarks(report)
    if report["cpu_us_per_event"]:
        said.append(f"CPU per event, µs: {_listed(report['cpu_us_per_event'])}.")
    if imported := report.get("import"):
        said.append(
            f"An import of {imported['lines']:,} events does {imported['events_per_s']:,.0f} events/s with"
            f" the whole system up, the same file again {imported['again_lines_per_s']:,.0f} lines/s; a bare"
            f" consumer of the same minutes {imported['bare_consumer_events_per_s']:,.0f} records/s. CPU per"
            f" imported event, µs: {_listed(imported['cpu_us_per_event'])}."
        )
    if report["reads"]:
        said.append(
            f"A bare route of the same workers holds"
            f" {report['reads']['bare_route']['requests_per_s']:,.0f} requests/s: reads are"
            f" {report['ratio_to_bare']:.0%} of it."
        )
        swap = report["swap"]
        said.append(
            f"{swap['swaps']} swaps of releases under {swap['requests']:,} reads at 200/s: {swap['errors']}"
            f" errors, {swap['mixed']} of {swap['sampled']:,} answers looked at mixed two, p95"
            f" {swap['p95_ms']:.1f} ms. With vector, impressions and open slates a person takes"
            f" {report['redis_bytes_per_user_with_everything']:,.0f} B."
        )
    if (others := report.get("machine", {}).get("cores_used_by_others") or 0) > BUSY_CORES:
        said.append(
            f"Other programs used {others:.1f} cores meanwhile: on a quiet machine figures are better."
        )
    return said


def _listed(cpu_us: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {us:g}" for name, us in cpu_us.items())


def _verify(runs: Sequence[Verified]) -> dict[str, Any]:
    return {
        "events_per_s": _median(runs, lambda it: it.events_per_s),
        "runs": [it.events_per_s for it in runs],
        "events": runs[0].events,
        "fields": runs[0].fields,
        "mismatches": 0,
    }


def _fresh(runs: Sequence[Fresh], cpu: Mapping[str, float]) -> dict[str, Any]:
    return {
        "runs": [{"p50": it.p50, "p99": it.p99, "probes": it.probes} for it in runs],
        "post_p99_ms": _median(runs, lambda it: it.post_p99),
        "cpu_us_per_event": dict(cpu),
    }


def _imports(imports: Imports) -> dict[str, Any]:
    return {
        "events_per_s": _median(imports.runs, lambda it: it.first),
        "again_lines_per_s": _median(imports.runs, lambda it: it.again),
        "bare_consumer_events_per_s": _median(imports.runs, lambda it: it.bare),
        "movielens_memory_bytes": imports.memory_bytes,
        "lines": imports.lines,
        "cpu_us_per_event": _medians([it.cpu_us for it in imports.runs]),
        "runs": _plain(imports.runs),
    }


def _plain(steps: Iterable[Any]) -> list[dict[str, Any]]:
    return [step._asdict() for step in steps]


def _medians(many: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(median(one[name] for one in many), 2) for name in many[0]}


def _median(runs: Sequence[Any], what: Callable[[Any], float]) -> float:
    return round(median(what(run) for run in runs), 3)
