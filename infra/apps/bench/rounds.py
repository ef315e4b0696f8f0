"""Replay, lake and rebuild: the benchmarks that share one log, measured in rounds.

So whatever else the machine does meanwhile is shared by all that are compared with one another.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from infra.apps.bench import lake as bench_lake
from infra.apps.bench import rebuild as bench_rebuild
from infra.apps.bench.lake import Beside
from infra.apps.bench.rebuild import Rebuild
from infra.apps.bench.replay import ReplayFigures, bare_consumer, empty, replay
from infra.apps.bench.services import Announce, Logged, logged

ONE_LOG: Final = ("replay", "lake", "rebuild")
EVENTS_COUNT: Final = 300_000


class Rounds(NamedTuple):
    """The figures of all rounds. Replays are always there: the others are given as shares of them."""

    replay: ReplayFigures
    lake: list[Beside]
    rebuild: list[Rebuild]


def measure(
    folder: Path,
    benchmarks: Collection[str],
    repeats: int,
    announce: Announce = lambda line: None,
    count: int = EVENTS_COUNT,
) -> Rounds:
    """Writes a log of `count` events and runs the `benchmarks` in `repeats` rounds.

    Errors: `NotMeasured` where a process ended, or the state is not exactly what the log says.
    """
    with logged(folder, count, announce) as at:
        rounds = Rounds(ReplayFigures([], [], at.log, at.settings.partitions), [], [])
        if "rebuild" in benchmarks and "lake" not in benchmarks:
            bench_lake.fill(at)
        for number in range(repeats):
            _round(at, benchmarks, rounds, _prefixed(announce, f"{number + 1} of {repeats}: "))
    return rounds


def _prefixed(announce: Announce, prefix: str) -> Announce:
    return lambda line: announce(prefix + line)


def _round(at: Logged, benchmarks: Collection[str], rounds: Rounds, announce: Announce) -> None:
    runs, ceiling = rounds.replay.runs, rounds.replay.ceiling
    ceiling.append(bare_consumer(at.settings, at.log.end_offsets))
    empty(at)
    runs.append(replay(at))
    announce(
        f"replay {runs[-1].events_per_s:,.0f} events/s"
        f" (a bare consumer: {ceiling[-1].records_per_s:,.0f})"
    )
    if "lake" in benchmarks:
        rounds.lake.append(bench_lake.beside(at))
        announce(f"replay beside the lake's writing {rounds.lake[-1].events_per_s:,.0f} events/s")
    if "rebuild" in benchmarks:
        rounds.rebuild.append(bench_rebuild.measure(at))
        last = rounds.rebuild[-1]
        announce(f"rebuild {last.events_per_s:,.0f} events/s (reading alone: {last.reading:,.0f})")
