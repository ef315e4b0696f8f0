"""Rebuild: the rate at which `freshet rebuild` makes a generation from the lake, checked to be exact.

The log is folded off line into a snapshot, and the snapshot is written to Redis. As with a replay the clock
starts when the first batch is folded. It stops when people, fences and tables are in Redis.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from flows.rebuild import fill
from flows.snapshots import make, read
from infra.apps.bench import replay
from infra.apps.bench.services import Logged
from infra.lake.log import open_log
from infra.lake.reader import Lake
from infra.store import redis_client
from schemas.topics import EVENTS

GENERATION: Final = 1


class Rebuild(NamedTuple):
    """`start_s`: seconds until the first batch was folded; `fill_s`: seconds of filling Redis; `reading`:
    events/s of the lake's reader alone, the ceiling."""

    events_per_s: float
    reading: float
    start_s: float
    fill_s: float


def measure(at: Logged) -> Rebuild:
    """Measures one rebuild from a filled lake. Errors: `NotMeasured`, those of `flows.snapshots`."""
    replay.empty(at)
    alone = reading(at)
    first: list[tuple[int, float]] = []

    def folded(records: int) -> None:
        if not first:
            first.append((records, time.perf_counter()))

    begun = time.perf_counter()
    made = make.make(at.settings, open_log(at.settings), at.end_offsets, None, folded)
    snapshot = time.perf_counter()
    with redis_client.connect(at.settings) as client:
        fill.fill(client, at.settings, made, GENERATION, lambda count: None)
        filled = time.perf_counter()
        replay.check(client, at.settings.keyspace, at.log)
    read.remove(at.settings, made.id)
    ((records, started),) = first
    rate = (at.log.records - records) / (filled - started)
    return Rebuild(rate, alone, started - begun, filled - snapshot)


def reading(at: Logged) -> float:
    """Events/s that one process reads from the lake and drops."""
    lake, begun, read = Lake.of(at.settings), time.perf_counter(), 0
    for partition, end in enumerate(at.end_offsets):
        for batch in lake.read(EVENTS.name, partition, 0, end):
            read += len(batch.offsets)
    return read / (time.perf_counter() - begun)
