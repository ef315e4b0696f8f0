"""Replay, lake and rebuild: the parts of the bench that one log is enough for, measured in turn.

So whatever else the machine does meanwhile is shared by all that are held against one another.
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

PARTS: Final = ("replay", "lake", "rebuild")
EVENTS_COUNT: Final = 300_000


class Turns(NamedTuple):
    """Replays are always there: the others are told as shares of them."""

    replay: ReplayFigures
    lake: list[Beside]
    rebuild: list[Rebuild]


def measure(
    folder: Path,
    parts: Collection[str],
    repeats: int,
    say: Say = lambda line: None,
    count: int = EVENTS_COUNT,
) -> Turns:
    """Writes a log of `count` events and takes the `parts` `repeats` times in turn.

    Errors: `NotMeasured` where a process fell, or the state is not exactly what the log says.
    """
    with logged(folder, count, say) as at:
        made = Turns(ReplayFigures([], [], at.log, at.settings.partitions), [], [])
        if "rebuild" in parts and "lake" not in parts:
            bench_lake.fill(at)
        for number in range(repeats):
            _turn(at, parts, made, lambda line, n=number: say(f"{n + 1} of {repeats}: {line}"))  # type: ignore[misc]
    return made


def _turn(at: Logged, parts: Collection[str], made: Turns, say: Say) -> None:
    runs, ceiling = made.replay.runs, made.replay.ceiling
    ceiling.append(bare_consumer(at.settings, at.log.ends))
    empty(at)
    runs.append(replay(at))
    say(f"replay {runs[-1].events_per_s:,.0f} events/s (a bare consumer: {ceiling[-1]:,.0f})")
    if "lake" in parts:
        made.lake.append(bench_lake.beside(at))
        say(f"replay beside the lake's writing {made.lake[-1].events_per_s:,.0f} events/s")
    if "rebuild" in parts:
        made.rebuild.append(bench_rebuild.measure(at))
        last = made.rebuild[-1]
        say(f"rebuild {last.events_per_s:,.0f} events/s (reading alone: {last.reading:,.0f})")
