"""CPU by component of a whole system: without work, and at 1,000 single POSTs/s that nobody reads."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final, NamedTuple

from infra.apps.bench import audience
from infra.apps.bench import cpu as bench_cpu
from infra.apps.bench.freshness import shuffled_items
from infra.apps.bench.live import (
    Announce,
    calm,
    catalogue,
    cpu_by_component,
    idle_cores,
    loaded,
    refuse_errors,
    settle,
)
from infra.apps.bench.load import Generator
from infra.apps.bench.writes.batches import Batches, batches

RATE_PER_S: Final = 1_000
IDLE_SECONDS: Final = 10.0


class Loaded(NamedTuple):
    """One run at `RATE_PER_S`: µs of CPU an event by component, its idle use included; p99 of POSTs, ms."""

    cpu_us: dict[str, float]
    batches: Batches
    post_p99: float


class Components(NamedTuple):
    idle_percent: dict[str, float]
    """By component, % of a core."""
    runs: list[Loaded]


def measure(
    folder: Path,
    generator: Generator,
    seconds: float,
    repeats: int,
    announce: Announce,
    idle_seconds: float = IDLE_SECONDS,
) -> Components:
    """Errors: `NotMeasured`."""
    source, seeds = catalogue()._replace(ratings=()), itertools.count(1)
    item_ids, runs = shuffled_items(source), list[Loaded]()
    with loaded(folder, generator, source, announce) as (system, aimed):
        calm(lambda: cpu_by_component(system))
        cores = idle_cores(lambda: cpu_by_component(system), idle_seconds)
        idle = {name: round(100 * it, 3) for name, it in cores.items()}
        announce(f"idle: {sum(idle.values()):.1f} % of a core")
        for number in range(repeats):
            posts, begin = int(RATE_PER_S * (aimed.warmup + seconds)) + 1, int(time.time() * 1000)
            bodies = audience.bodies(posts, 1, item_ids, begin, RATE_PER_S, next(seeds))
            lines, already = list(bodies), batches(system)
            before = cpu_by_component(system)
            report = aimed.events(lines, RATE_PER_S, seconds)
            refuse_errors(report)
            settle(system)  # every component has done its work for these events
            cpu = bench_cpu.per_event(before, cpu_by_component(system), posts)
            p99 = report["post_ms"]["p99"]
            runs.append(Loaded(cpu, batches(system).since(already), p99))
            announce(
                f"CPU at {RATE_PER_S:,} POSTs/s without reads, {number + 1} of {repeats}:"
                f" {sum(cpu.values()):.0f} µs an event"
            )
    return Components(idle, runs)
