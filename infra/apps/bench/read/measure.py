"""The benchmark: a generated catalogue, a system with everything on, and each retrieval in turn."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from infra.apps.bench import everything
from infra.apps.bench.figures import Row
from infra.apps.bench.live import Announce, calm, cpu_by_component, idle_cores, loaded, settle
from infra.apps.bench.load import Generator, NotMeasured
from infra.apps.bench.read import figures, in_process, probes, token_check
from infra.apps.bench.read.figures import COUNT, RETRIEVALS, Measured, ReadRun
from infra.apps.bench.reads import CALLERS, IDLE_SECONDS
from infra.apps.bench.steady import BARE_PATH
from infra.apps.bench.writes import bare
from infra.datasets.generated import THEME_ITEMS, generated
from infra.datasets.movielens import Dataset
from infra.kafka.changes import current
from infra.local import system as supervise
from infra.local.system import System

VARIABLE: Final = "FRESHET_RETRIEVAL"
SEED: Final = 20
MIN_PEOPLE: Final = 200
MIN_RATINGS: Final = 12_000
ITEMS_A_PERSON: Final = 20
RATINGS_AN_ITEM: Final = 10
MIN_CHOICES: Final = 600
MAX_CHOICES: Final = 5_000
"""That the ranker learns from."""
TRAINER: Final = (sys.executable, "-m", "infra.apps.bench.read.trainer")
READY_SECONDS: Final = 300.0
DECIDED_PEOPLE: Final = 120
"""People whose decisions are timed in process, and whose searches are compared with exact ones."""


def population(items: int) -> Dataset:
    """A clustered catalogue of about `items` items, and the history of its people; seeded."""
    count = max(items // THEME_ITEMS, 1) * THEME_ITEMS
    people = max(MIN_PEOPLE, count // ITEMS_A_PERSON)
    return generated(SEED, count, people, max(MIN_RATINGS, RATINGS_AN_ITEM * count))


def measure(
    folder: Path,
    generator: Generator,
    items: int,
    seconds: float,
    repeats: int,
    announce: Announce,
    retrievals: Sequence[str] = RETRIEVALS,
) -> tuple[list[dict[str, Any]], list[Row]]:
    """The objects of `read.json`, one a retrieval, and the lines of the table. Errors: `NotMeasured`, also
    where no ranker of trees serves."""
    from models.release.release import MAX_RANKED
    from serving.decide.pool import MAX_SCORED

    source = population(items)
    quiet = generator._replace(warmup=0.0)
    users = sorted({it.user_id for it in source.ratings})
    random.Random(SEED).shuffle(users)
    with loaded(folder, generator, source, announce) as (system, _):
        choices = min(MAX_CHOICES, max(MIN_CHOICES, items))
        everything.switch_on(system, announce, [*TRAINER, str(choices)])
        _check_trees(system)
    made, lines = list[dict[str, Any]](), list[Row]()
    for retrieval in retrievals:
        environment = {VARIABLE: retrieval}
        with supervise.running(folder, environment=environment, seconds=READY_SECONDS) as system:
            settle(system)
            aimed = quiet._replace(url=system.url, token=system.token)
            found = _one(system, aimed, retrieval, users, seconds, repeats, not made, announce)
        found = found._replace(items=len(source.items))
        made.append(figures.document(found, MAX_SCORED, MAX_RANKED))
        lines += figures.rows(found)
        for line in figures.remarks(made[-1]):
            announce(line)
    return made, lines


def _one(
    system: System,
    generator: Generator,
    retrieval: str,
    users: Sequence[str],
    seconds: float,
    repeats: int,
    first: bool,
    announce: Announce,
) -> Measured:
    paths = [f"/v1/recommendations?user_id={user}&count={COUNT}" for user in users]
    generator.closed(paths, max(2.0, seconds / 2), CALLERS)  # caches, and what is made once
    settle(system)
    idle = idle_cores(lambda: cpu_by_component(system), IDLE_SECONDS)
    runs = []
    with bare.bare_server(system.settings) as fastapi:
        for number in range(repeats):
            runs.append(_run(system, generator, paths, seconds, idle, fastapi.url, fastapi.pid))
            reads = runs[-1].reads
            announce(
                f"{retrieval}, {number + 1} of {repeats}: {reads.requests_per_s:.0f} reads/s, p95"
                f" {reads.latency_ms['p95']:.1f} ms, {reads.cpu_us_serving:.0f} µs in serving,"
                f" {reads.cpu_us_system:.0f} in all; a guarded route"
                f" {runs[-1].guarded.cpu_us_serving:.0f}"
            )
    worker = probes.worker(system)
    decide, index = in_process.measure(system.settings, users[:DECIDED_PEOPLE])
    tokens = token_check.measure() if first else ()
    return Measured(0, retrieval, runs, index, worker, decide if first else None, tokens)


def _run(
    system: System,
    generator: Generator,
    paths: Sequence[str],
    seconds: float,
    idle: dict[str, float],
    fastapi: str,
    pid: int,
) -> ReadRun:
    """Reads by callers that wait, reads at half their rate, and the bare routes of the same minute."""

    def rest() -> None:
        calm(lambda: cpu_by_component(system))

    rest()
    reads, _ = probes.load(system, lambda: generator.closed(paths, seconds, CALLERS), idle)
    rest()
    rate = max(1.0, reads.requests_per_s / 2)
    half, _ = probes.load(system, lambda: generator.reads(paths, rate, seconds), idle)
    rest()
    guarded, _ = probes.load(system, lambda: generator.closed([BARE_PATH], seconds, CALLERS), idle)
    beside = generator._replace(url=fastapi)
    return ReadRun(reads, half, guarded, probes.bare_load(pid, beside, bare.PATH, seconds, CALLERS))


def _check_trees(system: System) -> None:
    """Errors: `NotMeasured`: no ranker serves, or it is no ensemble of trees that the kernel evaluates."""
    from infra.releases.fetch import fetch
    from models.release.artefact import load

    serving = current(system.settings)
    if not serving:
        raise NotMeasured("no release serves")
    release = load(fetch(system.settings, serving))
    if release.rank is None:
        raise NotMeasured(f"release {serving} has no ranker: reads would be cheaper than they are")
    if release.trees is None:
        raise NotMeasured(f"no trees rank in release {serving}: {release.without_trees}")
