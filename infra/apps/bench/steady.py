"""Reads at a constant rate, beside a bare route of the same workers: latency, CPU, what a slate costs later.

Each read leaves a record of the slate that it served, which the flow `people` folds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from infra.apps.bench import cpu as bench_cpu
from infra.apps.bench.live import (
    Announce,
    cpu_by_component,
    fence_keys,
    folded_offsets,
    refuse_errors,
    settle,
)
from infra.apps.bench.load import Generator, NotMeasured
from infra.apps.bench.services import busy_loops
from infra.local.system import System
from infra.store import redis_client

STEADY_PER_S: Final = 300.0
BARE_PATH: Final = "/health/live"
"""A route that is guarded as every other, and does nothing."""
NOT_FOLDING: Final = ("edge", "redis")
"""Components that are neither the broker nor a flow."""


class Steady(NamedTuple):
    """One run at `STEADY_PER_S` and, right after, one of `BARE_PATH`. CPU in µs."""

    latency_ms: dict[str, float]
    """p50 and p95."""
    cpu_us: dict[str, float]
    """A request, by component."""
    served_us: float
    """Of the broker and all flows, a served slate, without what they use idle."""
    bare_us: float
    """Of the edge, a request of `BARE_PATH`, without what it uses idle."""


def steady_reads(
    system: System,
    generator: Generator,
    paths: Sequence[str],
    seconds: float,
    idle: dict[str, float],
) -> Steady:
    """Errors: `NotMeasured`."""
    began, before, already = time.monotonic(), cpu_by_component(system), _folded(system)
    report = generator.reads(paths, STEADY_PER_S, seconds)
    requests = int(STEADY_PER_S * (generator.warmup + seconds))
    cpu = bench_cpu.per_event(before, cpu_by_component(system), requests)
    refuse_errors(report)
    settle(system)  # the last slates too are folded, and so paid for
    whole = time.monotonic() - began
    used = bench_cpu.without_idle(before, cpu_by_component(system), idle, whole)
    if _folded(system) == already:
        raise NotMeasured("no record of a served slate was folded")
    # by read: a record of the log may hold the slates of several
    by_component = bench_cpu.per_event(before, used, requests)
    served = sum(us for name, us in by_component.items() if name not in NOT_FOLDING)
    began, before = time.monotonic(), cpu_by_component(system)
    refuse_errors(generator.reads([BARE_PATH], STEADY_PER_S, seconds))
    after, whole = cpu_by_component(system), time.monotonic() - began
    bare = bench_cpu.per_event(
        before, bench_cpu.without_idle(before, after, idle, whole), requests
    )["edge"]
    return Steady(_latency(report), cpu, served, bare)


def beside_loops(
    generator: Generator,
    paths: Sequence[str],
    seconds: float,
    neighbours: int,
    announce: Announce,
) -> list[dict[str, float]]:
    """One run beside busy loops; none where requests failed."""
    with busy_loops(neighbours):
        report = generator.reads(paths, STEADY_PER_S, seconds)
    try:
        refuse_errors(report)
    except NotMeasured as error:  # too much for this machine: the figures alone stay
        announce(f"reads at 300/s beside busy loops: {error}")
        return []
    announce(f"reads at 300/s beside busy loops: p95 {report['latency_ms']['p95']:.1f} ms")
    return [_latency(report)]


def _latency(report: dict[str, Any]) -> dict[str, float]:
    return {name: report["latency_ms"][name] for name in ("p50", "p95")}


def _folded(system: System) -> int:
    """Records that `people` has folded."""
    with redis_client.connect(system.settings) as client:
        return sum(folded_offsets(client.mget(fence_keys(system))))
