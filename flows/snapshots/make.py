"""Snapshot n + 1 = fold(snapshot n, log up to offsets o), without the running flows."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from flows.rollup.tables import limits
from flows.snapshots import files
from flows.snapshots.files import Row, SnapshotError
from flows.snapshots.fold import (
    MIN_PARALLEL_RECORDS,
    Folded,
    FoldTask,
    fold_all,
)
from flows.snapshots.read import check, outbox, tables, topic_of
from flows.snapshots.versions import current_versions
from infra.garbage import rare_collection
from infra.kafka.kafka_client import TopicInfo
from infra.lake.store import Store, open_store
from infra.log_reader import LogReader
from infra.settings import Settings
from models.aggregates.tables import Tables
from schemas import snapshots
from schemas.alphabet import Millis
from schemas.events import merge_number
from schemas.identity import partition_of
from schemas.snapshots import MANIFEST, OUTBOX, Partition, Snapshot

TABLES_FILE: Final = "tables.npz"
Progress = Callable[[int], None]


def make(
    settings: Settings,
    log: LogReader,
    until: Sequence[int],
    base: Snapshot | None = None,
    progress: Progress = lambda records: None,
    *,
    topic: TopicInfo | None = None,
    processes: int | None = None,
) -> Snapshot:
    """Makes the snapshot of the log up to offset `until[p]` of each partition, from `base` or the beginning.

    `progress` gets the number of records of each folded batch; `processes`: None chooses by the log's length.

    Errors: `SnapshotError`, `LakeError`, `OffTheLog` and other errors of the log, those of the fold.
    """
    topic = topic or topic_of(settings)
    _check_until(until, base, topic)
    made_at = time.time_ns() // 1_000_000
    # ids sort by time: two may be made within one second
    when = f"{datetime.fromtimestamp(made_at // 1000, UTC):%Y%m%dT%H%M%S}{made_at % 1000:03}"
    id_ = f"{when}-{secrets.token_hex(3)}"
    tasks = [FoldTask(settings, log, id_, p, end, base, topic) for p, end in enumerate(until)]
    sums = Tables(topic.partitions, limits(settings)) if base is None else tables(settings, base)
    folded = _fold(tasks, sums, processes or _processes(until, base), progress)
    if sums.positions != list(until):
        raise SnapshotError(
            f"the tables are at {sums.positions}, the people at {list(until)}: the facts have a gap"
        )
    return _write(settings, id_, made_at, base, topic, folded, sums)


def _check_until(until: Sequence[int], base: Snapshot | None, topic: TopicInfo) -> None:
    """Errors: `SnapshotError`."""
    if len(until) != topic.partitions:
        raise SnapshotError(
            f"until has {len(until)} offsets, events has {topic.partitions} partitions"
        )
    if base is None:
        return
    check(base, topic)
    for p, (base_offset, offset) in enumerate(zip(base.offsets, until, strict=True)):
        if offset < base_offset:
            raise SnapshotError(
                f"until is {offset} in partition {p}, snapshot {base.id} is at {base_offset}: start"
                " from an earlier one, or from the beginning"
            )


def _processes(until: Sequence[int], base: Snapshot | None) -> int:
    records = sum(until) - (sum(base.offsets) if base else 0)
    return 1 if records < MIN_PARALLEL_RECORDS else min(len(until), os.cpu_count() or 1)


def _fold(
    tasks: Sequence[FoldTask], sums: Tables, processes: int, progress: Progress
) -> list[Folded]:
    """Folds all partitions, and returns them in order. Adds their facts to `sums`."""
    folded: dict[int, Folded] = {}
    with rare_collection():
        for result in fold_all(tasks, processes):
            if isinstance(result, Folded):
                folded[result.partition] = result
            else:
                sums.apply(result.partition, result.entry)
                progress(result.records)
    return [folded[p] for p in sorted(folded)]


def _write(
    settings: Settings,
    id_: str,
    made_at: Millis,
    base: Snapshot | None,
    topic: TopicInfo,
    folded: Sequence[Folded],
    sums: Tables,
) -> Snapshot:
    store = open_store(settings)
    before = [outbox(settings, base, p) if base else [] for p in range(topic.partitions)]
    made = Snapshot(
        id=id_,
        made_at=made_at,
        base=base.id if base else "",
        topic_id=topic.id,
        versions=current_versions(),
        partitions=[
            _partition(
                store, id_, it, base, _unsent([*before[it.partition], *it.outbox], it, folded)
            )
            for it in folded
        ],
        tables=files.write_bytes(store, id_, TABLES_FILE, sums.dump(), len(sums.items)),
    )
    store.put(files.path(id_, MANIFEST), snapshots.encode(made))
    return made


def _partition(
    store: Store, id_: str, it: Folded, base: Snapshot | None, unsent: Sequence[Row]
) -> Partition:
    before = base.partitions[it.partition] if base else None
    return Partition(
        offset=it.fence.offset,
        newest=it.fence.newest,
        events=it.events + (before.events if before else 0),
        dead_letters=it.dead_letters + (before.dead_letters if before else 0),
        received={source.decode(): number.decode() for source, number in it.received.items()},
        tallies={reason.decode(): int(total) for reason, total in it.tallies.items()},
        people=it.people,
        outbox=files.write_rows(store, id_, f"outbox-{it.partition:02}.parquet", OUTBOX, unsent),
    )


def _unsent(emitted: Sequence[Row], source: Folded, all_: Sequence[Folded]) -> list[Row]:
    """The emitted entries that their receivers had not folded at these offsets. A relay sends a partition's
    entries in order, so each receiver's highest number is the limit."""
    name = b"%d" % source.partition
    reached = [merge_number(it.received.get(name, b"-1-0")) for it in all_]
    return [
        row for row in emitted if merge_number(row[0]) > reached[partition_of(row[1], len(all_))]
    ]
