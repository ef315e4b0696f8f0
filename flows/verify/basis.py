"""Where `freshet verify` starts: at the log's beginning, or at a snapshot where the beginning is gone.

Snapshots are imported where they are needed: the import would take a third of each process's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from flows.verify import stored_tables
from flows.verify.stored_tables import Stored
from infra.log_reader import LogReader
from infra.settings import Settings
from infra.store.redis_client import Client
from models.reference.before import SnapshotState
from schemas.errors import FreshetError
from schemas.keys import Keyspace
from schemas.snapshots import Snapshot
from schemas.state import fences
from schemas.topics import EVENTS


class Shortened(FreshetError):
    """The log reaches back neither to its beginning nor to a snapshot; the text says where it starts."""


class Behind(FreshetError):
    """Redis has not reached the snapshots to which the log reaches back; it may have so later."""

    remedy = "run it again once the flows have caught up (freshet status)"


def choose(
    settings: Settings,
    log: LogReader,
    partitions: Sequence[int],
    client: Client,
    keyspace: Keyspace,
    tables: Sequence[Stored],
) -> Snapshot | None:
    """None where the log of these partitions reaches back to its beginning; else the newest snapshot to which
    it reaches back and that all of Redis has reached.

    Errors: `Shortened`, `Behind`, those of Redis, the log and the lake.
    """
    starts = {p: log.bounds(EVENTS.name, p)[0] for p in partitions}
    if not any(starts.values()):
        return None
    from flows.snapshots import read

    since = [starts.get(p, 0) for p in range(settings.partitions)]
    within = [_reached(client, p, keyspace, tables, starts) for p in range(settings.partitions)]
    if found := read.latest(settings, within=within, since=since):
        return found
    if there := read.latest(settings, since=since):
        raise Behind(
            f"the log's beginning is gone, and Redis has not reached snapshot {there.id} yet, to which"
            " the log reaches back"
        )
    raise shortened(*next((p, start) for p, start in starts.items() if start))


def shortened(partition: int, start: int) -> Shortened:
    return Shortened(
        f"partition {partition} of the log starts at {start}, the records before are not in the lake,"
        " and the log does not reach back to any snapshot: there is nothing to compare with. Run the flow"
        " `lake`, which keeps the log, or make snapshots (freshet snapshot make) before the log is shortened"
    )


def _reached(
    client: Client,
    partition: int,
    keyspace: Keyspace,
    tables: Sequence[Stored],
    starts: Mapping[int, int],
) -> int:
    """The lowest offset of this partition in everything that is compared."""
    reached = [stored.positions[partition] for stored in tables]
    if partition in starts:
        reached += _fence(client, partition, keyspace, starts[partition])
    return min(reached, default=2**63)


def _fence(client: Client, partition: int, keyspace: Keyspace, start: int) -> list[int]:
    """The fence's offset; [] where it is missing, broken or off the log, which a later check reports."""
    try:
        held = fences.decode(client.get(keyspace.fence("people", partition)) or b"")
    except msgspec.MsgspecError:
        return []
    return [held.offset] if held.offset >= start else []


def sums(settings: Settings, snapshot: Snapshot) -> Stored:
    """The snapshot's tables. Errors: `SnapshotError`, `LakeError`."""
    from flows.snapshots import read

    return stored_tables.of_tables(read.tables(settings, snapshot), settings.keyspace.tables())


def before(settings: Settings, snapshot: Snapshot, partition: int) -> SnapshotState:
    """The snapshot's state of this partition. Errors: `SnapshotError`, `LakeError`."""
    from flows.snapshots import read

    fence, state, received, tallies = read.load(settings, snapshot, partition)
    return SnapshotState(partition, fence.newest, state, received, tallies)
