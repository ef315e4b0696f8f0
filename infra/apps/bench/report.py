"""The bench's report: medians over repeats, the shape of `loop.json`, and the table for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from infra.apps.bench import report_rounds
from infra.apps.bench.figures import FIGURES, READS_P95, VERIFY, Row, row
from infra.apps.bench.imports import Imports
from infra.apps.bench.reads import Reads
from infra.apps.bench.results import Results
from infra.apps.bench.verify import Verified
from infra.apps.bench.writes import remarks as writes_remarks
from infra.apps.bench.writes import report as writes_report
from infra.apps.bench.writes.report import medians

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
    *writes_report.KEYS,
)
"""Keys that the report always has, null where a benchmark was skipped."""


def report(results: Results) -> dict[str, Any]:
    """The whole report except machine and versions."""
    rounds, verified, fresh = results.rounds, results.verified, results.fresh
    reads, imports = results.reads, results.imports
    made: dict[str, Any] = dict.fromkeys(REQUIRED_KEYS) | writes_report.report(results)
    cpu: dict[str, float] = {}
    if rounds:
        runs_ = rounds.replay.runs
        made["replay_events_per_s"] = round(median(run.events_per_s for run in runs_), 1)
        cpu |= medians([run.cpu_us for run in runs_])
        made |= report_rounds.report(rounds)
    if verified:
        made["verify"] = _verify(verified)
    if fresh:
        made["freshness_ms"] = writes_report.freshness(fresh)
        details = made["freshness"] = writes_report.freshness_details(fresh)
        # with its probes: `post` has the cost of a POST that nobody reads
        single, many = (details[name]["cpu_us_per_event"]["edge"] for name in ("1000", "5000"))
        cpu |= {"edge": many, "edge_single": single}
    if reads:
        steady = [it.latency_ms for it in reads.steady]
        made["reads"] = {
            "at_300": _latency(steady),
            "at_300_neighbours": _latency(reads.beside) if reads.beside else None,
            "at_100_beside_pages": {
                "alone": medians([it.alone_ms for it in reads.pages]),
                "beside": medians([it.beside_ms for it in reads.pages]),
                "page_ms": _median(reads.pages, lambda it: it.page_ms),
            },
            "best": {
                "requests_per_s": _median(reads.best, lambda it: it.reached),
                "p95_ms": _median(reads.best, lambda it: it.tail_ms),
            },
            "bare_route": {"requests_per_s": _median(reads.bare, lambda it: it.reached)},
        }
        best, bare = (made["reads"][name]["requests_per_s"] for name in ("best", "bare_route"))
        made["ratio_to_bare"] = round(best / bare, 4)
        made["redis_bytes_per_user"] = reads.bytes_per_user
        made["redis_bytes_per_user_with_everything"] = reads.all_bytes_per_user
        made["swap"] = reads.swap._asdict()
        made["read_cpu_us_per_request"] = medians([it.cpu_us for it in reads.steady])
        made["noise"] = {
            "reads_at_300": steady,
            "reads_at_300_neighbours": reads.beside,
            "best": _plain(reads.best),
        }
    if imports:
        made["import"] = _imports(imports)
    made["cpu_us_per_event"] = cpu or None
    return made


def rows(results: Results) -> list[Row]:
    """The figures of the benchmarks that ran, in the order of `FIGURES`."""
    reads, imports = results.reads, results.imports
    lines = list(report_rounds.rows(results.rounds)) if results.rounds else []
    if results.verified:
        lines.append(row(VERIFY, [run.events_per_s for run in results.verified]))
    lines += writes_report.rows(results)
    measured: list[Sequence[float]] = [
        [run.latency_ms["p95"] for run in reads.steady] if reads else (),
        [run["p95"] for run in reads.beside] if reads else (),
        [run.beside_ms["max"] for run in reads.pages] if reads else (),
        _shares_of_bare(reads) if reads else (),
        [reads.bytes_per_user] if reads else (),
        [reads.swap.errors + reads.swap.mixed] if reads else (),
        [100 * it.first / it.bare for it in imports.runs] if imports else (),
        [100 * it.again / it.bare for it in imports.runs] if imports else (),
        [imports.memory_bytes / 1e6] if imports else (),
    ]
    figures = FIGURES[FIGURES.index(READS_P95) :]
    return lines + [row(it, of) for it, of in zip(figures, measured, strict=True) if of]


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Sentences below the table: figures without a floor, and context for the others."""
    said: list[str] = []
    if report["replay_events_per_s"]:
        said += report_rounds.remarks(report)
    if report["cpu_us_per_event"]:
        said.append(f"CPU per event, µs: {writes_remarks.listed(report['cpu_us_per_event'])}.")
        if report["freshness_ms"]:
            said.append(
                "There edge is of POSTs of 10 events, edge_single of single ones, both with 25 reads/s that"
                " wait for their events."
            )
    if imported := report.get("import"):
        said.append(
            f"An import of {imported['lines']:,} events does {imported['events_per_s']:,.0f} events/s with"
            f" the whole system up, the same file again {imported['again_lines_per_s']:,.0f} lines/s; a bare"
            f" consumer of the same minutes {imported['bare_consumer_events_per_s']:,.0f} records/s. CPU per"
            f" imported event, µs: {writes_remarks.listed(imported['cpu_us_per_event'])}."
        )
    said += writes_remarks.remarks(report)
    if report["reads"]:
        beside = report["reads"]["at_300_neighbours"]
        said.append(
            f"A bare route of the same workers holds"
            f" {report['reads']['bare_route']['requests_per_s']:,.0f} requests/s: reads are"
            f" {report['ratio_to_bare']:.0%} of it."
            + (
                f" Reads at 300/s beside busy loops: p95 {beside['p95_ms']:.1f} ms."
                if beside
                else ""
            )
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


def _shares_of_bare(reads: Reads) -> list[float]:
    """Of each best rate, in % of the bare route's median."""
    bare = median(step.reached for step in reads.bare)
    return [100 * step.reached / bare for step in reads.best]


def _verify(runs: Sequence[Verified]) -> dict[str, Any]:
    return {
        "events_per_s": _median(runs, lambda it: it.events_per_s),
        "runs": [it.events_per_s for it in runs],
        "events": runs[0].events,
        "fields": runs[0].fields,
        "mismatches": 0,
    }


def _imports(imports: Imports) -> dict[str, Any]:
    return {
        "events_per_s": _median(imports.runs, lambda it: it.first),
        "again_lines_per_s": _median(imports.runs, lambda it: it.again),
        "bare_consumer_events_per_s": _median(imports.runs, lambda it: it.bare),
        "movielens_memory_bytes": imports.memory_bytes,
        "lines": imports.lines,
        "cpu_us_per_event": medians([it.cpu_us for it in imports.runs]),
        "runs": _plain(imports.runs),
    }


def _plain(steps: Iterable[Any]) -> list[dict[str, Any]]:
    return [step._asdict() for step in steps]


def _latency(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {f"{name}_ms": value for name, value in medians(runs).items()}


def _median(runs: Sequence[Any], what: Callable[[Any], float]) -> float:
    return round(median(what(run) for run in runs), 3)
