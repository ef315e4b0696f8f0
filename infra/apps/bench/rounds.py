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
from infra.apps.bench.services import Logged, Say, logged

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
    say: Say = lambda line: None,
    count: int = EVENTS_COUNT,
) -> Rounds:
    """Writes a log of `count` events and runs the `benchmarks` in `repeats` rounds.

    Errors: `NotMeasured` where a process ended, or the state is not exactly what the log says.
    """
    with logged(folder, count, say) as at:
        made = Rounds(ReplayFigures([], [], at.log, at.settings.partitions), [], [])
        if "rebuild" in benchmarks and "lake" not in benchmarks:
            bench_lake.fill(at)
        for number in range(repeats):
            _round(at, benchmarks, made, _prefixed(say, f"{number + 1} of {repeats}: "))
    return made


def _prefixed(say: Say, prefix: str) -> Say:
    return lambda line: say(prefix + line)


def _round(at: Logged, benchmarks: Collection[str], made: Rounds, say: Say) -> None:
    runs, ceiling = made.replay.runs, made.replay.ceiling
    ceiling.append(bare_consumer(at.settings, at.log.end_offsets))
    empty(at)
    runs.append(replay(at))
    say(f"replay {runs[-1].events_per_s:,.0f} events/s (a bare consumer: {ceiling[-1]:,.0f})")
    if "lake" in benchmarks:
        made.lake.append(bench_lake.beside(at))
        say(f"replay beside the lake's writing {made.lake[-1].events_per_s:,.0f} events/s")
    if "rebuild" in benchmarks:
        made.rebuild.append(bench_rebuild.measure(at))
        last = made.rebuild[-1]
        say(f"rebuild {last.events_per_s:,.0f} events/s (reading alone: {last.reading:,.0f})")
