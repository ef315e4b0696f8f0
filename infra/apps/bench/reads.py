"""Reads of a whole system with everything on: at 300/s, while releases are swapped, and the best rate."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple
from urllib.parse import quote

from infra.apps.bench import everything
from infra.apps.bench import swap as bench_swap
from infra.apps.bench.live import (
    Announce,
    calm,
    catalogue,
    cpu_by_component,
    idle_cores,
    loaded,
    settle,
)
from infra.apps.bench.load import Generator, NotMeasured, step
from infra.apps.bench.pages import BesidePages, beside_pages
from infra.apps.bench.rate import RateStep, best
from infra.apps.bench.steady import BARE_PATH, Steady, beside_loops, steady_reads
from infra.apps.bench.swap import Swap
from infra.local.system import System
from infra.store import redis_client
from schemas.keys import Keyspace

HISTORY_SHARE: Final = 0.8
"""Share of the ratings, by time, that is imported: as in the demo before its first read."""
LIMIT_MS: Final = 50.0
FIRST_RATE: Final = 100.0
FIRST_SHARE: Final = 0.7
"""The search begins at this share of the rate of waiting callers."""
CALLERS: Final = 32
IDLE_SECONDS: Final = 5.0
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


class Reads(NamedTuple):
    steady: list[Steady]
    beside: list[dict[str, float]]
    """p50 and p95 at `STEADY_PER_S` beside busy loops, ms; without a run where requests failed."""
    pages: list[BesidePages]
    best: list[RateStep]
    bare: list[RateStep]
    bytes_per_user: float
    """Of the keys `row` and `seen`."""
    all_bytes_per_user: float
    """Of all `EVERY_KEY`, after the reads."""
    users: int
    swap: Swap


def reads(
    folder: Path,
    generator: Generator,
    seconds: float,
    repeats: int,
    neighbours: int,
    announce: Announce,
) -> Reads:
    """Reads by people with a history, with everything on, alone and beside `neighbours` busy loops; then the
    same while releases are swapped.

    Errors: `NotMeasured`, `rate.NeverHeld`.
    """
    whole = catalogue()
    source = whole._replace(ratings=whole.ratings[: int(len(whole.ratings) * HISTORY_SHARE)])
    users = sorted({it.user_id for it in source.ratings})
    random.Random(0).shuffle(users)
    paths = [f"/v1/recommendations?user_id={quote(user, safe='')}&count=10" for user in users]
    with loaded(folder, generator, source, announce) as (system, aimed):
        size = bytes_per_user(system, (Keyspace.row, Keyspace.seen))
        everything.switch_on(system, announce)
        idle = idle_cores(lambda: cpu_by_component(system), IDLE_SECONDS)
        steady, beside = list[Steady](), list[dict[str, float]]()
        for number in range(repeats):
            steady.append(steady_reads(system, aimed, paths, seconds, idle))
            p95 = steady[-1].latency_ms["p95"]
            announce(f"reads at 300/s, {number + 1} of {repeats}: p95 {p95:.1f} ms")
            if neighbours:
                beside += beside_loops(aimed, paths, seconds, neighbours, announce)
                settle(system)
        pages = [beside_pages(system, aimed, paths, seconds, announce) for _ in range(repeats)]
        settle(system)
        whole_size = bytes_per_user(system, EVERY_KEY)
        swap = bench_swap.measure(system, aimed, paths, announce)
        held = _best(system, aimed, paths, seconds, repeats, "reads", announce)
        bare = _best(system, aimed, [BARE_PATH], seconds, repeats, "a bare route", announce)
    return Reads(steady, beside, pages, held, bare, size, whole_size, len(users), swap)


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
        calm(lambda: cpu_by_component(system))  # an overload's backlog belongs to the step before
        done = step(generator.reads(paths, rate, seconds))
        errors = f", {done.errors} errors" if done.errors else ""
        announce(f"{what} at {rate:.0f}/s: {done.reached:.0f}/s, p95 {done.tail_ms:.1f} ms{errors}")
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
