"""`freshet verify`: what Redis holds against what the log says it should, while everything runs."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from infra import store
from infra.cli import verify_stored, verify_tables
from infra.cli.verify_partition import Done, Shortened, Task, go_through
from infra.cli.verify_report import Found, Report
from infra.cli.verify_stored import Stored
from infra.generation import live
from infra.log import LogReader
from infra.settings import Settings
from models.reference import Sums
from models.reference.sums import Marks
from schemas.topics import EVENTS

PROCESSES: Final = 2
"""Partitions at a time, where there are so many cores: readers are served meanwhile."""
MANY: Final = 50_000
"""Records from which on a second process is worth its start."""


class Moved(RuntimeError):
    """Another generation went live meanwhile: what was read is of two; run it again."""


def verify(
    settings: Settings,
    log: LogReader,
    *,
    people: int | None = None,
    sums: bool = True,
    partitions: Sequence[int] | None = None,
    seed: int = 0,
) -> Report:
    """Compares so many `people` (None: everybody) and, with `sums`, every table with the log.

    `partitions`: people of these only; sums are of all. Where everybody is checked, so are the names
    of their keys, and the ids that de-duplication remembers. Writes nothing. `Report.mismatches` is
    empty where all is well; `Report.wrong()` counts them by what they are of.
    Errors: `Moved`, `Shortened`, `infra.log.OffTheLog`, those of Redis and the log.
    """
    chosen = list(range(settings.partitions)) if partitions is None else sorted(set(partitions))
    begun, found = time.monotonic(), Found()
    with store.connect(settings) as client:
        generation = live(client)
        read = (client, settings.partitions, generation, found)
        there = [verify_stored.base(*read), verify_stored.published(*read)] if sums else []
        tables = [one for one in there if one is not None]
        done = list(_all(_tasks(settings, log, generation, people, seed, chosen, tables)))
        if live(client) != generation:
            raise Moved("another generation went live meanwhile: run it again")
    _compare(found, tables, done)
    events = sum(it.events for it in done)
    return Report(
        partitions=chosen,
        events=events,
        people_checked=sum(it.checked for it in done),
        fields_checked=found.fields,
        mismatches=found.mismatches(),
        rate=round(events / max(time.monotonic() - begun, 1e-9), 1),
    )


def _tasks(
    settings: Settings,
    log: LogReader,
    generation: int,
    people: int | None,
    seed: int,
    chosen: Sequence[int],
    tables: Sequence[Stored],
) -> list[Task]:
    """The sample is shared between the chosen partitions."""
    most = None if people is None else -(-people // max(1, len(chosen)))
    marks = verify_stored.reference_marks(tables) if tables else Marks.at(0.0)
    return [
        Task(
            settings,
            log,
            partition,
            generation,
            most if partition in chosen else 0,
            seed,
            [stored.positions[partition] for stored in tables],
            marks,
        )
        for partition in (range(settings.partitions) if tables else chosen)
    ]


def _all(tasks: Sequence[Task]) -> Iterator[Done]:
    """In processes of their own where that is worth it: partitions are independent."""
    records = sum(end - start for start, end in (_bounds(task) for task in tasks))
    processes = min(PROCESSES, os.cpu_count() or 1, len(tasks))
    if processes < 2 or records < MANY:
        yield from map(go_through, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        yield from pool.map(go_through, tasks)


def _bounds(task: Task) -> tuple[int, int]:
    return task.log.bounds(EVENTS.name, task.partition)


def _compare(found: Found, tables: Sequence[Stored], done: Sequence[Done]) -> None:
    """Sums of all partitions against each version of the tables."""
    beyond = False
    for it in done:
        found.add(it.found)
        for position in it.beyond:
            beyond = True
            found.wrong("tables", f"position {it.partition}", position, it.end)
    if beyond or not tables:
        return  # no table can hold more of a partition than its log does
    both = Sums.of(it.both for it in done)
    for n, stored in enumerate(tables):
        total = Sums.of([both, *(it.own[n] for it in done)])
        verify_tables.compare(found, stored, total)


__all__ = ["Moved", "Report", "Shortened", "verify"]
