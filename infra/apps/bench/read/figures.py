"""The figures of reads beside a bare route, as `read.json` holds them and as lines of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from infra.apps.bench.figures import Figure, Row, grade
from infra.apps.bench.read.in_process import DecideTimes
from infra.apps.bench.read.index import IndexFigures
from infra.apps.bench.read.probes import Load, WorkerFigures
from infra.apps.bench.read.token_check import TokenTimes
from serving.world.index import SCAN, USEARCH

COUNT: Final = 10
"""Items of an answer."""
RETRIEVALS: Final = (USEARCH, SCAN)
"""In the order that they are measured and printed in."""

DECIDE: Final = Figure("compiled decision, of a bare guarded route in process", 3, 2, True, "times")
TOKEN_COLD: Final = Figure("a new token's check, of its signature's alone", 2, 2, True, "times")
TOKEN_CACHED: Final = Figure("the check of a token that was seen before", 5, 5, True, "µs")
RATIO_SERVING: Final = {
    USEARCH: Figure("serving CPU a read, of the bare route's: USearch", 7.5, 5, True, "times"),
    SCAN: Figure("serving CPU a read, of the bare route's: scan", 6, 4, True, "times"),
}
RATIO_SYSTEM: Final = Figure("whole system's CPU a read, of the bare route's", 9, 6, True, "times")
RATIO_REQUESTS: Final = Figure("requests/s, of the bare route's", 0.15, 0.25, False, "times")
LOOP_LAG: Final = Figure("longest turn of the event loop", 30, 15, True, "ms")


class ReadRun(NamedTuple):
    """One repeat: the reads, those at half their rate, and right after them the bare routes."""

    reads: Load
    half: Load
    guarded: Load
    fastapi: Load


class Measured(NamedTuple):
    """One retrieval, measured."""

    items: int
    retrieval: str
    runs: Sequence[ReadRun]
    of_index: IndexFigures
    worker: WorkerFigures
    decide: DecideTimes | None
    """Of the first retrieval alone."""
    tokens: Sequence[TokenTimes] = ()
    """Likewise."""


def document(measured: Measured, k: int, fine: int) -> dict[str, Any]:
    """Its object in `read.json`: medians over the repeats. `k`, `fine`: candidates that the coarse and the
    fine score look at."""

    def middle(what: Callable[[ReadRun], float]) -> float:
        return round(median(map(what, measured.runs)), 3)

    index, worker, decide = measured.of_index, measured.worker, measured.decide
    rate = middle(lambda run: run.reads.requests_per_s)
    made: dict[str, Any] = {
        "items": measured.items,
        "retrieval": measured.retrieval,
        "k": k,
        "fine": fine,
        "recall_at_1000": index.recall_at_1000,
        "recall_of_top_100": index.recall_of_top_100,
        "requests_per_s": rate,
        "recs_per_s": round(rate * COUNT, 1),
        **_latency(measured.runs, lambda run: run.reads),
        "at_half_load": {
            "requests_per_s": middle(lambda run: run.half.requests_per_s),
            **_latency(measured.runs, lambda run: run.half),
        },
        "cpu_us_serving": middle(lambda run: run.reads.cpu_us_serving),
        "cpu_us_system": middle(lambda run: run.reads.cpu_us_system),
        "cpu_us_by_stage": {
            stage: middle(lambda run, stage=stage: run.reads.us_by_stage.get(stage, 0.0))  # type: ignore[misc]
            for stage in measured.runs[0].reads.us_by_stage
        },
        "bare_guarded": _bare(measured.runs, lambda run: run.guarded),
        "bare_fastapi": _bare(measured.runs, lambda run: run.fastapi),
        "ratio_serving": middle(lambda run: run.reads.cpu_us_serving / run.guarded.cpu_us_serving),
        "ratio_system": middle(lambda run: run.reads.cpu_us_system / run.guarded.cpu_us_serving),
        "longest_turn_ms": middle(lambda run: run.reads.loop_lag_ms),
        "bytes_per_item": index.bytes_per_item,
        "build_s_per_million": index.build_s_per_million,
        "worker_ready_s": worker.ready_s,
        "worker_rss_mb": worker.rss_mb,
        "new_item_visible_ms": worker.new_item_visible_ms,
        "cpu_s_per_million_recs": middle(lambda run: run.reads.cpu_us_system / COUNT),
    }
    if decide is not None:
        made |= {
            "decide_us": decide.compiled_us,
            "decide_python_us": decide.python_us,
            "bare_in_process_us": decide.bare_us,
        }
    if measured.tokens:
        made["token_check_us"] = {it.algorithm: it._asdict() for it in measured.tokens}
    return made


def rows(measured: Measured) -> list[Row]:
    """The lines of the table."""
    runs, name = measured.runs, measured.retrieval
    lines = []
    if (decide := measured.decide) is not None and decide.compiled_us is not None:
        lines.append(_row(DECIDE, "", [decide.compiled_us / decide.bare_us]))
    for it in measured.tokens:
        lines.append(_row(TOKEN_COLD, it.algorithm, [it.cold_us / it.signature_us]))
    if measured.tokens:
        lines.append(_row(TOKEN_CACHED, "", [max(it.cached_us for it in measured.tokens)]))
    bare = [run.guarded.cpu_us_serving for run in runs]
    serving = [run.reads.cpu_us_serving / route for run, route in zip(runs, bare, strict=True)]
    system = [run.reads.cpu_us_system / route for run, route in zip(runs, bare, strict=True)]
    requests = [run.reads.requests_per_s / run.guarded.requests_per_s for run in runs]
    return [
        *lines,
        _row(RATIO_SERVING[name], "", serving),
        _row(RATIO_SYSTEM, name, system),
        _row(RATIO_REQUESTS, name, requests),
        _row(LOOP_LAG, name, [run.reads.loop_lag_ms for run in runs]),
    ]


def remarks(made: Mapping[str, Any]) -> list[str]:
    """Sentences below the table, of an object of `read.json`."""
    stages = ", ".join(f"{name} {us:,.0f}" for name, us in made["cpu_us_by_stage"].items())
    said = [
        f"{made['retrieval']}, {made['items']:,} items: {made['requests_per_s']:,.0f} reads/s"
        f" ({made['recs_per_s']:,.0f} recommendations/s), p50 {made['p50_ms']:.1f}, p95 {made['p95_ms']:.1f},"
        f" p99 {made['p99_ms']:.1f} ms; at half of it p95 {made['at_half_load']['p95_ms']:.1f} ms.",
        f"A read takes {made['cpu_us_serving']:,.0f} µs of CPU in serving,"
        f" {made['cpu_us_system']:,.0f} in all; a guarded route {made['bare_guarded']['cpu_us']:,.0f}, a bare"
        f" one of FastAPI {made['bare_fastapi']['cpu_us']:,.0f}. By stage, µs: {stages}.",
        f"Of the exact 1,000 the index finds {made['recall_at_1000']:.1%}, of the best 100"
        f" {made['recall_of_top_100']:.1%}, with {made['bytes_per_item']:,.0f} B an item and"
        f" {made['build_s_per_million']:,.1f} s of CPU a million. A worker is ready after"
        f" {made['worker_ready_s']:.1f} s and takes {made['worker_rss_mb']:,.0f} MB; a new item is visible"
        f" after {made['new_item_visible_ms']:,.0f} ms.",
    ]
    if made.get("decide_python_us"):
        compiled = made["decide_us"]
        said.append(
            "In process, µs: "
            + (f"compiled decision {compiled:,.0f}, " if compiled else "")
            + f"Python's {made['decide_python_us']:,.0f}, a guarded route"
            f" {made['bare_in_process_us']:,.0f}."
        )
    return said


def _row(figure: Figure, of_what: str, of: Sequence[float]) -> Row:
    """As `infra.apps.bench.figures.row`, but ratios need their second decimal."""
    sign, measured = "≤" if figure.lower_is_better else "≥", median(of)
    name = f"{figure.name}, {figure.unit}" + (f": {of_what}" if of_what else "")
    noise = f"{min(of):,.2f} to {max(of):,.2f}" if len(of) > 1 else ""
    limits = f"{sign} {figure.floor:g}", f"{sign} {figure.aim:g}"
    return Row(name, *limits, f"{measured:,.2f}", noise, grade(figure, measured))


def _bare(runs: Sequence[ReadRun], of: Callable[[ReadRun], Load]) -> dict[str, float]:
    return {
        "requests_per_s": round(median(of(run).requests_per_s for run in runs), 1),
        "cpu_us": round(median(of(run).cpu_us_serving for run in runs), 2),
    }


def _latency(runs: Sequence[ReadRun], of: Callable[[ReadRun], Load]) -> dict[str, float]:
    return {
        f"{name}_ms": round(median(of(run).latency_ms[name] for run in runs), 3)
        for name in ("p50", "p95", "p99")
    }
