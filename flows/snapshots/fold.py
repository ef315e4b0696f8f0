"""Folds partitions of the log offline, in parallel processes that send their facts batch by batch."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from typing import Any, Final, NamedTuple

from flows.offline.fold import MAX_BATCH_RECORDS, Offline
from flows.people.fold import VERSION
from flows.snapshots.files import Row, SnapshotError, write_rows
from flows.snapshots.read import load
from infra.garbage import rare_collection
from infra.kafka.kafka_client import TopicInfo
from infra.lake.store import open_store
from infra.log_reader import LogReader
from infra.settings import Settings
from schemas.snapshots import PAIRS, Snapshot, SnapshotFile
from schemas.state import facts
from schemas.state.facts import Delta
from schemas.state.fences import Fence
from schemas.topics import EVENTS

MIN_PARALLEL_RECORDS: Final = 200_000
"""Fewer records are folded before a second process has started."""


class FoldTask(NamedTuple):
    """A partition to fold: from the offset of `base` up to offset `until`, into a file of `snapshot`."""

    settings: Settings
    log: LogReader
    snapshot: str
    partition: int
    until: int
    base: Snapshot | None
    topic: TopicInfo

    @property
    def records(self) -> int:
        """How many records there are to fold, at most."""
        return self.until - (self.base.offsets[self.partition] if self.base else 0)


class BatchFolded(NamedTuple):
    """The result of one batch: its entry of the delta log."""

    partition: int
    records: int
    entry: Delta


class Folded(NamedTuple):
    """The result of one partition, whose file is written. `outbox`: (id, person, value) of its entries."""

    partition: int
    fence: Fence
    events: int
    dead_letters: int
    received: dict[bytes, bytes]
    tallies: dict[bytes, bytes]
    outbox: Sequence[Row]
    people: SnapshotFile


def people_file(partition: int) -> str:
    return f"people-{partition:02}.parquet"


def fold(task: FoldTask) -> Iterator[BatchFolded | Folded]:
    """Folds a partition and writes its file; yields each batch, then the partition.

    Errors: those of the log, the fold and the lake; ValueError where the log ends before `until`.
    """
    made = _start(task)
    for batch in task.log.read(
        EVENTS.name, task.partition, made.fence.offset, task.until, MAX_BATCH_RECORDS
    ):
        yield BatchFolded(task.partition, len(batch.offsets), made.fold(batch))
    if made.fence.offset != task.until:
        raise ValueError(
            f"partition {task.partition}: the log was read up to {made.fence.offset}, asked for"
            f" {task.until}"
        )
    store = open_store(task.settings)
    people = write_rows(store, task.snapshot, people_file(task.partition), PAIRS, made.pairs())
    sent = [(it.id, it.fields[b"k"], it.fields[b"v"]) for it in made.outbox]
    dead, received, tallies = made.dead.total(), dict(made.received), dict(made.tallies)
    yield Folded(task.partition, made.fence, made.events, dead, received, tallies, sent, people)


def _start(task: FoldTask) -> Offline:
    if task.base is None:
        fence = Fence(task.topic.id, task.topic.partitions, 0, 0, VERSION)
        return Offline(task.settings, task.partition, fence)
    return Offline(task.settings, task.partition, *load(task.settings, task.base, task.partition))


def fold_all(tasks: Sequence[FoldTask], processes: int) -> Iterator[BatchFolded | Folded]:
    """The results of `fold` of each task, as they come, in `processes` processes. Errors: those of `fold`."""
    if processes <= 1:
        for task in tasks:
            yield from fold(task)
        return
    # spawned: the parent may run threads of a broker's or a bucket's client
    context = multiprocessing.get_context("spawn")
    running: dict[Any, Any] = {}
    with ExitStack() as children:
        for share in _shares(tasks, processes):
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_run, args=(share, sender), daemon=True)
            child.start()
            children.callback(_kill, child)
            sender.close()
            running[receiver] = child
        while running:
            for ready in wait(list(running)):
                if (result := _next_result(ready, running[ready])) is None:
                    del running[ready]
                else:
                    yield result


def _shares(tasks: Sequence[FoldTask], processes: int) -> list[list[FoldTask]]:
    """The tasks of each process: the longest partitions first, each to the process with least records."""
    shares: list[list[FoldTask]] = [[] for _ in range(min(processes, len(tasks)))]
    for task in sorted(tasks, key=lambda it: it.records, reverse=True):
        min(shares, key=lambda share: sum(it.records for it in share)).append(task)
    return shares


def _run(tasks: Sequence[FoldTask], parent: Any) -> None:
    try:
        with rare_collection():
            for result in (it for task in tasks for it in fold(task)):
                if isinstance(result, BatchFolded):
                    parent.send((result.partition, result.records, facts.encode(result.entry)))
                else:
                    parent.send(result)
        parent.send(None)
    except Exception as error:
        parent.send(error)
        raise SystemExit(1) from None


def _next_result(receiver: Any, child: Any) -> BatchFolded | Folded | None:
    """The next result of a child process; None after its last. Errors: the child's; `SnapshotError`."""
    try:
        result = receiver.recv()
    except EOFError:
        child.join()
        raise SnapshotError(
            f"a process that folds a partition ended with status {child.exitcode}",
            remedy="was it killed, or is memory short?",
        ) from None
    if isinstance(result, Exception):
        raise result
    if result is None or isinstance(result, Folded):
        return result
    partition, records, entry = result
    return BatchFolded(partition, records, facts.decode(entry))


def _kill(child: Any) -> None:
    if child.is_alive():
        child.kill()
    child.join()
