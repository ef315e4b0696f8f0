"""Freshness: from the first byte of a POST to a read that includes it, alone and beside busy loops."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.apps.bench import audience
from infra.apps.bench import cpu as bench_cpu
from infra.apps.bench.live import (
    Announce,
    catalogue,
    cpu_by_component,
    loaded,
    refuse_errors,
    settle,
)
from infra.apps.bench.load import Generator, NotMeasured, Probing
from infra.apps.bench.services import busy_loops
from infra.apps.bench.writes.batches import Batches, batches
from infra.apps.bench.writes.timeline import Stages, watching
from infra.datasets.movielens import Dataset
from infra.local.system import System

PROBES_PER_S: Final = 25
BESIDE: Final = "_neighbours"
"""Suffix of the name of a load that was measured beside busy loops."""


class EventLoad(NamedTuple):
    """A load of events: `posts` a second, each with `batch` events of one user."""

    name: str
    posts: int
    batch: int

    @property
    def events(self) -> int:
        return self.posts * self.batch


EVENT_LOADS: Final = (EventLoad("1000", 1000, 1), EventLoad("5000", 500, 10))


class Fresh(NamedTuple):
    """One run: percentiles of freshness and of POSTs in ms, and CPU per event by component in µs."""

    p50: float
    p99: float
    probes: int
    post_p99: float
    cpu_us: dict[str, float]
    batches: Batches


class FreshRuns(NamedTuple):
    """By the name of a load, with `BESIDE` for those beside busy loops: its runs; and of one more run
    alone, the stages of a probe's freshness. A load with errors beside busy loops has no run."""

    runs: dict[str, list[Fresh]]
    stages: dict[str, Stages]


def freshness(
    folder: Path,
    generator: Generator,
    seconds: float,
    repeats: int,
    neighbours: int,
    announce: Announce,
) -> FreshRuns:
    """For each of `EVENT_LOADS` `repeats` runs alone and, alternating with these, beside `neighbours` busy
    loops. Errors: `NotMeasured`."""
    source, done = catalogue()._replace(ratings=()), FreshRuns({}, {})
    with loaded(folder, generator, source, announce) as (system, aimed):
        bench = _Loads(system, aimed, seconds, source)
        for shape, again in itertools.product(EVENT_LOADS, range(repeats)):
            _keep(done, bench, shape, f"{again + 1} of {repeats}", announce)
            settle(system)
            if neighbours:
                with busy_loops(neighbours):
                    _keep_beside(done, bench, shape, f"{again + 1} of {repeats}", announce)
                settle(system)
        for shape in EVENT_LOADS:
            done.stages[shape.name] = bench.stages(shape, generator.folder / "timeline")
            announce(f"freshness at {shape.name}/s by stage: {done.stages[shape.name]}")
            settle(system)
    return done


def _keep(
    done: FreshRuns, bench: _Loads, shape: EventLoad, which: str, announce: Announce, at: str = ""
) -> None:
    run = bench.run(shape)
    done.runs.setdefault(shape.name + at, []).append(run)
    announce(
        f"freshness at {shape.name}/s{' beside busy loops' if at else ''}, {which}:"
        f" p50 {run.p50:.1f} ms, p99 {run.p99:.1f} ms ({run.probes} probes)"
    )


def _keep_beside(
    done: FreshRuns, bench: _Loads, shape: EventLoad, which: str, announce: Announce
) -> None:
    try:
        _keep(done, bench, shape, which, announce, BESIDE)
    except NotMeasured as error:  # too much for this machine: the figures alone stay
        announce(f"freshness at {shape.name}/s beside busy loops, {which}: {error}")


class _Loads:
    """Loads on one system, each with event ids of its own."""

    def __init__(
        self, system: System, generator: Generator, seconds: float, source: Dataset
    ) -> None:
        self._system, self._generator, self._seconds = system, generator, seconds
        self._item_ids = shuffled_items(source)
        self._seeds = itertools.count(1)

    def run(self, shape: EventLoad) -> Fresh:
        """Errors: `NotMeasured`."""
        before, already = cpu_by_component(self._system), batches(self._system)
        report = self._send(shape, Probing(shape.posts // PROBES_PER_S))
        events = self._posts(shape) * shape.batch
        cpu = bench_cpu.per_event(before, cpu_by_component(self._system), events)
        held, made = report["freshness_ms"], batches(self._system).since(already)
        return Fresh(held["p50"], held["p99"], held["n"], report["post_ms"]["p99"], cpu, made)

    def stages(self, shape: EventLoad, timeline: Path) -> Stages:
        """Errors: `NotMeasured`."""
        with watching(self._system) as commits:
            self._send(shape, Probing(shape.posts // PROBES_PER_S, timeline=timeline))
        return commits.stages(timeline.read_text())

    def _send(self, shape: EventLoad, probing: Probing) -> dict[str, Any]:
        bodies = self._bodies(shape)
        report = self._generator.events(list(bodies), shape.posts, self._seconds, probing)
        refuse_errors(report)
        if not report["freshness_ms"]["n"]:
            raise NotMeasured("no probe was answered")
        return report

    def _posts(self, shape: EventLoad) -> int:
        return int(shape.posts * (self._generator.warmup + self._seconds)) + 1

    def _bodies(self, shape: EventLoad) -> Iterator[tuple[str, str]]:
        begin, posts = int(time.time() * 1000) + 500, self._posts(shape)
        seed = next(self._seeds)
        return audience.bodies(posts, shape.batch, self._item_ids, begin, shape.posts, seed)


def shuffled_items(source: Dataset) -> list[str]:
    """The ids of all items, so that popular ones are not the first."""
    item_ids = [it.item_id for it in source.items]
    random.Random(0).shuffle(item_ids)
    return item_ids
