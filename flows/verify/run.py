"""`freshet verify`: compares Redis with the log, while everything runs."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Final

from flows.verify import basis, stored_tables, table_sums
from flows.verify import waiting as waits
from flows.verify.basis import Behind, Shortened
from flows.verify.partition import CheckTask, Done, check_partition
from flows.verify.report import Findings, Report
from flows.verify.stored_tables import Stored
from infra.log_reader import LogReader
from infra.settings import Settings
from infra.signals import die_with
from infra.store import redis_client
from infra.store.generation import live_keys
from infra.store.redis_client import Client
from models.reference.sums import Landmarks, Sums
from models.reference.waiting import WaitingReference
from schemas.errors import FreshetError
from schemas.keys import Keyspace
from schemas.topics import EVENTS

if TYPE_CHECKING:
    from flows.verify.report import Report

MIN_PARALLEL_RECORDS: Final = 50_000
"""Fewer records are checked before a second process has started."""


class Moved(FreshetError):
    """Another generation went live during the run, so the values that were read belong to two."""

    remedy = "run it again"


def verify(
    settings: Settings,
    log: LogReader,
    *,
    people: int | None = None,
    sums: bool = True,
    partitions: Sequence[int] | None = None,
    seed: int = 0,
) -> Report:
    """Compares a sample of `people` (None: all) and, with `sums`, every table with the log. Writes nothing.

    `partitions`: people of these only; sums are of all. With all people, it checks their key names and the
    stored ids of de-duplication as well. Where the log does not reach back to its beginning, a snapshot
    replaces the earlier records. `Report.mismatches` is empty where nothing differs; `Report.wrong()` counts
    mismatches by kind.

    Errors: `Moved`, `Behind`, `Shortened`, `OffTheLog`, `SnapshotError`, those of Redis, the log
    and the lake.
    """
    chosen = list(range(settings.partitions)) if partitions is None else sorted(set(partitions))
    begun, findings = time.monotonic(), Findings()
    with redis_client.connect(settings) as client:
        keyspace = live_keys(client, settings)
        tables = _tables(client, settings, keyspace, findings) if sums else []
        through = list(range(settings.partitions)) if tables else chosen
        snapshot = basis.choose(settings, log, through, client, keyspace, tables)
        base_sums = [basis.sums(settings, snapshot)] if snapshot and tables else []
        marks = (
            stored_tables.reference_marks([*tables, *base_sums]) if tables else Landmarks.at(0.0)
        )
        # the sample is shared between the chosen partitions
        per_partition = None if people is None else -(-people // max(1, len(chosen)))
        whole = CheckTask(settings, log, 0, keyspace, per_partition, seed, [], marks, snapshot)
        tasks = [_task_of(whole, p, p in chosen, tables, base_sums) for p in through]
        done = list(_run_tasks(tasks))
        if live_keys(client, settings) != keyspace:
            raise Moved("another generation went live during the run")
    _compare(findings, tables, done, [stored_tables.sums_of(it, marks) for it in base_sums])
    events = sum(it.events for it in done)
    return Report(
        partitions=chosen,
        events=events,
        people_checked=sum(it.checked for it in done),
        fields_checked=findings.fields,
        mismatches=findings.mismatches(),
        rate=round(events / max(time.monotonic() - begun, 1e-9), 1),
        start={task.partition: task.first for task in tasks},
        snapshot=snapshot.id if snapshot else "",
    )


def _tables(
    client: Client, settings: Settings, keyspace: Keyspace, findings: Findings
) -> list[Stored]:
    """The tables to compare with the log. Tables at the log's beginning must be empty."""
    read = (client, settings.partitions, keyspace, findings)
    there = [stored_tables.base(*read), stored_tables.published(*read)]
    tables = [one for one in there if one is not None]
    for stored in tables:
        if not any(stored.positions):
            table_sums.compare(findings, stored, Sums(stored.marks))
    return [stored for stored in tables if any(stored.positions)]


def _task_of(
    task: CheckTask,
    partition: int,
    chosen: bool,
    tables: Sequence[Stored],
    before: Sequence[Stored],
) -> CheckTask:
    waiting = [waits.reference_of(it, partition, task.marks) for it in before]
    limits = [it.waiting.limits for it in tables if it.waiting is not None]
    return task._replace(
        partition=partition,
        people=task.people if chosen else 0,
        cuts=[stored.positions[partition] for stored in tables],
        waiting=waiting[0] if waiting else WaitingReference(*limits[:1]),
    )


def _run_tasks(tasks: Sequence[CheckTask]) -> Iterator[Done]:
    """Runs every second task in another process, where the tasks are long: partitions are independent."""
    if (
        (os.cpu_count() or 1) < 2
        or len(tasks) < 2
        or sum(map(_records, tasks)) < MIN_PARALLEL_RECORDS
    ):
        yield from map(check_partition, tasks)
        return
    context = multiprocessing.get_context("spawn")
    # the pool's process ends with this one, even where this one is killed
    with ProcessPoolExecutor(1, context, initializer=die_with, initargs=(os.getpid(),)) as pool:
        theirs = pool.map(check_partition, tasks[1::2])
        # this process needs no imports and no pickling
        yield from map(check_partition, tasks[::2])
        yield from theirs


def _records(task: CheckTask) -> int:
    return task.log.bounds(EVENTS.name, task.partition)[1] - task.first


def _compare(
    findings: Findings, tables: Sequence[Stored], done: Sequence[Done], before: Sequence[Sums]
) -> None:
    """Compares the sums of all partitions, and those `before` them, with each version of the tables."""
    beyond = False
    for it in done:
        findings.add(it.findings)
        for position in it.beyond:
            beyond = True
            findings.wrong("tables", f"position {it.partition}", position, it.end)
    if beyond or not tables:
        return  # no table can hold more of a partition than its log does
    both = Sums.of([*before, *(it.both for it in done)])
    for n, stored in enumerate(tables):
        total = Sums.of([both, *(it.own[n] for it in done)])
        table_sums.compare(findings, stored, total, [it.waits[n] for it in done])


__all__ = ["Behind", "Moved", "Report", "Shortened", "verify"]


SAMPLED_PEOPLE: Final = 500
"""Of a run of the command line that names no number."""
