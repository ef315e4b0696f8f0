"""Import: the rate of `freshet import` into a whole system, as a share of a bare consumer's, and its memory.

A bare consumer reads what was imported right after, so whatever else the machine does is in both figures.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from infra.apps.bench import cpu
from infra.apps.bench.live import cpu_by_component, settle
from infra.apps.bench.load import NotMeasured
from infra.apps.bench.replay import bare_consumer
from infra.apps.bench.services import Announce
from infra.kafka.offsets import offsets
from infra.local import system as supervise
from infra.local.plan import FRESHET
from infra.local.system import System
from schemas.times import iso
from schemas.topics import EVENTS

EVENTS_COUNT: Final = 1_000_000
PEOPLE: Final = 20_000
ITEMS: Final = 5_000
FIRST_MS: Final = 1_700_000_000_000
"""2023-11-14, in milliseconds: when the first event occurred."""
MEAN_GAP_MS: Final = 30_000
POLL_SECONDS: Final = 0.02
"""Between two looks at the memory of an import."""
_ACTIONS: Final = ("view", "click", "purchase", "like")
_ACTION_WEIGHTS: Final = (60, 30, 5, 5)


class Imported(NamedTuple):
    """One import of a file, then the same again. Lines/s, and records/s of the bare consumer."""

    first: float
    again: float
    bare: float
    cpu_us: dict[str, float]
    """Per event of the first import, by component; `import` is the program itself."""


class Imports(NamedTuple):
    runs: list[Imported]
    memory_bytes: int
    """Of a process that imports as many ratings in the layout of MovieLens 25M, at its most."""
    lines: int


def measure(
    folder: Path, repeats: int, announce: Announce = lambda line: None, count: int = EVENTS_COUNT
) -> Imports:
    """Imports `count` events, and again, `repeats` times; then MovieLens. Errors: `NotMeasured`."""
    runs = []
    with supervise.running(folder / "system") as system:
        items = folder / "items.ndjson"
        items.write_bytes(b"\n".join(_items()))
        _import(system, "--items", str(items))
        for number in range(repeats):
            announce(f"import: writing {count:,} lines")
            file = folder / "events.ndjson"
            with file.open("wb") as out:
                out.writelines(_events(count, seed=number))
            runs.append(_twice(system, file, count))
            last = runs[-1]
            announce(
                f"import {number + 1} of {repeats}: {last.first:,.0f} events/s, again {last.again:,.0f}"
                f" lines/s (a bare consumer: {last.bare:,.0f})"
            )
        memory = _movielens(system, folder / "movielens", count)
        announce(f"import of MovieLens: {memory / 1e6:.0f} MB")
    return Imports(runs, memory, count)


def _twice(system: System, file: Path, count: int) -> Imported:
    before = cpu_by_component(system)
    first = _import(system, "--events", str(file))
    settle(system)
    cpu_us = cpu.per_event(before, cpu_by_component(system), count)
    cpu_us["import"] = round(first.cpu_seconds * 1e6 / count, 2)
    again = _import(system, "--events", str(file))
    if (first.summary["accepted"], again.summary["already_sent"]) != (count, count):
        raise NotMeasured("the import did not send each line once")
    end_offsets = {
        p: end for p, (_, end) in offsets(system.settings, [EVENTS.name])[EVENTS.name].items()
    }
    bare = bare_consumer(system.settings, end_offsets).records_per_s
    first_seconds, again_seconds = first.summary["seconds"], again.summary["seconds"]
    return Imported(count / first_seconds, count / again_seconds, bare, cpu_us)


def _movielens(system: System, folder: Path, count: int) -> int:
    """The most memory, in bytes, of an import of `count` ratings in the layout of MovieLens 25M."""
    folder.mkdir()
    with (folder / "movies.csv").open("w") as out:
        out.write("movieId,title,genres\n")
        out.writelines(f"{n},Film {n} (1999),Drama|Comedy\n" for n in range(1, ITEMS + 1))
    chance = random.Random(0)
    with (folder / "ratings.csv").open("w") as out:
        out.write("userId,movieId,rating,timestamp\n")
        for n in range(count):
            at = FIRST_MS // 1000 - chance.randrange(10**8)
            film, stars = chance.randint(1, ITEMS), chance.randint(1, 10) / 2
            out.write(f"{1 + n * PEOPLE // count},{film},{stars},{at}\n")
    return _import(system, "--movielens", str(folder)).memory_bytes


class _Run(NamedTuple):
    """A run of `freshet import`: the last summary that it printed, and what it took."""

    summary: dict[str, Any]
    memory_bytes: int
    cpu_seconds: float


def _import(system: System, *arguments: str) -> _Run:
    command = [*FRESHET, "import", "--data-dir", str(system.settings.data_dir), "--json"]
    before, memory = os.times(), 0
    with (
        tempfile.TemporaryFile() as printed,
        subprocess.Popen([*command, *arguments], stdout=printed) as running,
    ):
        while running.poll() is None:
            memory = max(memory, cpu.peak_memory(running.pid))
            time.sleep(POLL_SECONDS)
        printed.seek(0)
        text = printed.read()
    if running.returncode:
        raise NotMeasured(f"freshet import ended with {running.returncode}")
    after = os.times()
    seconds = sum(after[2:4]) - sum(before[2:4])  # of children that ended
    *_, summary = msgspec.json.decode(text, type=dict[str, dict[str, Any]]).values()
    return _Run(summary, memory, seconds)


def _items() -> Iterator[bytes]:
    for n in range(ITEMS):
        yield msgspec.json.encode(
            {"item_id": f"i{n}", "title": f"Item {n}", "category": f"c{n % 20}"}
        )


def _events(count: int, seed: int) -> Iterator[bytes]:
    """`count` lines in order of time, few items in most of them."""
    chance, at = random.Random(seed), FIRST_MS
    for _ in range(count):
        at += chance.randrange(2 * MEAN_GAP_MS)
        item = int(chance.paretovariate(0.6)) % ITEMS
        action = chance.choices(_ACTIONS, _ACTION_WEIGHTS)[0]
        yield (
            f'{{"user_id":"u{chance.randrange(PEOPLE)}","item_id":"i{item}","action":"{action}",'
            f'"occurred_at":"{iso(at)}"}}\n'
        ).encode()
