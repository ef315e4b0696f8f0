"""Freshness and reads of a whole system, as `freshet up` runs it, under the load generator."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from infra.apps.bench import audience, everything
from infra.apps.bench import cpu as bench_cpu
from infra.apps.bench import swap as bench_swap
from infra.apps.bench.load import Generator, NotMeasured, Probing, step
from infra.apps.bench.rate import RateStep, best
from infra.apps.bench.swap import Swap
from infra.apps.bulk_import.catalogue import send_catalogue
from infra.apps.bulk_import.system import Endpoint
from infra.datasets import movielens
from infra.datasets.generated import generated
from infra.datasets.movielens import Dataset
from infra.local import system as supervise
from infra.local.system import System
from infra.store import redis_client
from schemas.keys import Keyspace
from schemas.state import fences, tables

HISTORY_SHARE: Final = 0.8
"""Share of the ratings, by time, that is imported: as in the demo before its first read."""
LIMIT_MS: Final = 50.0
FIRST_RATE: Final = 100.0
FIRST_SHARE: Final = 0.7
"""The search begins at this share of the rate of waiting callers."""
CALLERS: Final = 32
STEADY_PER_S: Final = 300.0
PROBES_PER_S: Final = 25
MAX_PEOPLE_SAMPLED: Final = 5_000
EVERY_KEY: Final = (
    Keyspace.row,
    Keyspace.seen,
    Keyspace.vector,
    Keyspace.impressions,
    Keyspace.open_slates,
    Keyspace.reversibles,
    Keyspace.likes,
    Keyspace.overflow,
)
Kind = Callable[[Keyspace, int, str], bytes]
"""From keyspace, partition and pseudonym to a key of the person."""
_STALL_SECONDS: Final = 120.0
_CALM_SECONDS: Final = 10.0
_CALM_SHARE: Final = 0.15
"""Share of a core."""
Announce = Callable[[str], None]


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


class Reads(NamedTuple):
    steady: list[dict[str, float]]
    """p50 and p95 at `STEADY_PER_S` requests/s, ms."""
    best: list[RateStep]
    bare: list[RateStep]
    bytes_per_user: float
    """Of the keys `row` and `seen`."""
    all_bytes_per_user: float
    """Of all `EVERY_KEY`, after the reads."""
    cpu_us: dict[str, float]
    """Per request at `STEADY_PER_S`, by component."""
    users: int
    swap: Swap


def catalogue() -> Dataset:
    """MovieLens where it is found, else generated data."""
    folder = movielens.find()
    return movielens.load(folder) if folder else generated()


def freshness(
    folder: Path, generator: Generator, seconds: float, repeats: int, announce: Announce
) -> dict[str, list[Fresh]]:
    """For each of `EVENT_LOADS`, `repeats` runs. Errors: `NotMeasured`."""
    source = catalogue()._replace(ratings=())
    with _system(folder, generator, source, announce) as (system, aimed):
        runs: dict[str, list[Fresh]] = {}
        for number, shape in enumerate(EVENT_LOADS):
            of = runs[shape.name] = []
            for again in range(repeats):
                seed = 1 + number * repeats + again
                of.append(_fresh(system, aimed, shape, seconds, source, seed))
                announce(
                    f"freshness at {shape.name}/s, {again + 1} of {repeats}: p50 {of[-1].p50:.1f} ms,"
                    f" p99 {of[-1].p99:.1f} ms ({of[-1].probes} probes)"
                )
                settle(system)
    return runs


def _fresh(
    system: System,
    generator: Generator,
    shape: EventLoad,
    seconds: float,
    source: Dataset,
    seed: int,
) -> Fresh:
    posts = int(shape.posts * (generator.warmup + seconds)) + 1
    item_ids = [it.item_id for it in source.items]
    random.Random(0).shuffle(item_ids)  # so that popular items are not the first ones
    begin = int(time.time() * 1000) + 500
    lines = list(audience.bodies(posts, shape.batch, item_ids, begin, shape.posts, seed))
    before = cpu_by_component(system)
    report = generator.events(lines, shape.posts, seconds, Probing(shape.posts // PROBES_PER_S))
    cpu = bench_cpu.per_event(before, cpu_by_component(system), posts * shape.batch)
    _refuse_errors(report)
    held = report["freshness_ms"]
    if not held["n"]:
        raise NotMeasured("no probe was answered")
    return Fresh(held["p50"], held["p99"], held["n"], report["post_ms"]["p99"], cpu)


def reads(
    folder: Path, generator: Generator, seconds: float, repeats: int, announce: Announce
) -> Reads:
    """Reads by people with a history, with everything on; then the same while releases are swapped.

    Errors: `NotMeasured`, `rate.NeverHeld`.
    """
    whole = catalogue()
    source = whole._replace(ratings=whole.ratings[: int(len(whole.ratings) * HISTORY_SHARE)])
    users = sorted({it.user_id for it in source.ratings})
    random.Random(0).shuffle(users)
    paths = [f"/v1/recommendations?user_id={quote(user, safe='')}&count=10" for user in users]
    with _system(folder, generator, source, announce) as (system, aimed):
        size = bytes_per_user(system, (Keyspace.row, Keyspace.seen))
        everything.switch_on(system, announce)
        steady, cpu = [], []
        for number in range(repeats):
            before = cpu_by_component(system)
            report = aimed.reads(paths, STEADY_PER_S, seconds)
            cpu.append(
                bench_cpu.per_event(
                    before, cpu_by_component(system), int(STEADY_PER_S * (aimed.warmup + seconds))
                )
            )
            _refuse_errors(report)
            steady.append({name: report["latency_ms"][name] for name in ("p50", "p95")})
            announce(f"reads at 300/s, {number + 1} of {repeats}: p95 {steady[-1]['p95']:.1f} ms")
        whole_size = bytes_per_user(system, EVERY_KEY)
        swap = bench_swap.measure(system, aimed, paths, announce)
        held = _best(system, aimed, paths, seconds, repeats, "reads", announce)
        bare = _best(system, aimed, ["/health/live"], seconds, repeats, "a bare route", announce)
    middle = {name: round(median(it[name] for it in cpu), 2) for name in cpu[0]}
    return Reads(steady, held, bare, size, whole_size, middle, len(users), swap)


def _best(
    system: System,
    generator: Generator,
    paths: Sequence[str],
    seconds: float,
    repeats: int,
    what: str,
    announce: Announce,
) -> list[RateStep]:
    # callers that wait for answers give the capacity roughly; the search is for the rate of callers that
    # do not wait
    most = generator.closed(paths, min(2.0, seconds), CALLERS)["requests_per_s"]
    announce(f"{what}: {CALLERS} callers that wait get {most:.0f}/s")

    def measure(rate: float) -> RateStep:
        _calm(system)  # the backlog of an overload belongs to the step before
        done = step(generator.reads(paths, rate, seconds))
        errors = f", {done.errors} errors" if done.errors else ""
        announce(f"{what} at {rate:.0f}/s: {done.reached:.0f}/s, p95 {done.p95_ms:.1f} ms{errors}")
        return done

    return best(measure, max(FIRST_RATE, most * FIRST_SHARE), LIMIT_MS, repeats)


def bytes_per_user(system: System, kinds: Sequence[Kind]) -> float:
    """Median bytes in Redis of a person's keys of these `kinds`, the overhead of keys included."""
    keyspace = system.settings.keyspace
    with redis_client.connect(system.settings) as client:
        names = list(client.scan_iter(match=keyspace.rows_pattern(), count=1000))[
            :MAX_PEOPLE_SAMPLED
        ]
        with client.pipeline(transaction=False) as pipe:
            for it in filter(None, map(keyspace.parse, names)):
                for kind in kinds:
                    of = keyspace.in_generation(it.generation)
                    pipe.memory_usage(kind(of, int(it.home), it.rest.decode()))
            used = [it or 0 for it in pipe.execute()]
    if not names:
        raise NotMeasured("Redis holds no people")
    each = len(kinds)
    return float(median(sum(used[at : at + each]) for at in range(0, len(used), each)))


@contextmanager
def _system(
    folder: Path, generator: Generator, source: Dataset, announce: Announce
) -> Iterator[tuple[System, Generator]]:
    """A system that has applied all of `source`, and the generator with its address."""
    with supervise.running(folder) as system:
        announce(
            f"importing {len(source.items):,} items, {len(source.ratings):,} events: {source.source}"
        )
        send_catalogue(Endpoint(system.url, system.settings.token), source)
        settle(system)
        yield system, generator._replace(url=system.url)
        restarted = [it.name for it in system.state().processes if it.restarts]
        if restarted:
            raise NotMeasured(
                f"{', '.join(restarted)} ended and was restarted: the figures are void"
            )


def settle(system: System) -> None:
    """Waits until people and tables have reached the end of the log. Errors: `NotMeasured`."""
    from infra.kafka.offsets import offsets
    from schemas.topics import EVENTS

    until, before = time.monotonic() + _STALL_SECONDS, ([0], [0])
    keyspace = system.settings.keyspace
    with redis_client.connect(system.settings) as client:
        while True:
            end_offsets = [
                end
                for _, (_, end) in sorted(
                    offsets(system.settings, [EVENTS.name])[EVENTS.name].items()
                )
            ]
            held = client.mget([keyspace.fence("people", p) for p in range(len(end_offsets))])
            meta = client.get(keyspace.tables().meta)
            folded = [fences.decode(it).offset if it else 0 for it in held]
            summed = (
                list(tables.META_DECODER.decode(meta).positions) if meta else [0] * len(end_offsets)
            )
            if folded == end_offsets == summed:
                return
            if (folded, summed) != before:  # slow is not stuck
                before, until = (folded, summed), time.monotonic() + _STALL_SECONDS
            if time.monotonic() > until:
                raise NotMeasured(
                    "people and tables are not at the end of the log, and have not moved for"
                    f" {_STALL_SECONDS:.0f} s"
                )
            time.sleep(0.25)


def _calm(system: System) -> None:
    """Waits until edge and broker are nearly idle, for at most `_CALM_SECONDS`."""
    until, last = time.monotonic() + _CALM_SECONDS, cpu_by_component(system)
    while time.monotonic() < until:
        time.sleep(0.25)
        now = cpu_by_component(system)
        if all(now[name] - last[name] < _CALM_SHARE * 0.25 for name in ("edge", "broker")):
            return
        last = now


def cpu_by_component(system: System) -> dict[str, float]:
    """CPU seconds so far by component, summed over workers. `edge` is serving."""
    pids: dict[str, list[int]] = {}
    for it in system.state().processes:
        if it.pid and it.name != "setup":
            stem, _, number = it.name.rpartition("-")
            name = stem if number.isdigit() else it.name
            pids.setdefault(name.replace("serving", "edge"), []).append(it.pid)
    return bench_cpu.cpu_of(pids)


def _refuse_errors(report: dict[str, Any]) -> None:
    wrong = {name: count for name, count in report["errors"].items() if count}
    if wrong:
        listed = ", ".join(f"{count} {name}" for name, count in wrong.items())
        raise NotMeasured(f"of {report['scheduled']} requests some failed: {listed}")
