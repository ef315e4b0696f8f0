"""Replay: the rate at which `people` folds an existing log, as in production, checked to be exact.

One worker owns all partitions; roll-up and relay run beside it. The clock starts when the first
batch is committed, which excludes the start-up, and stops when the fences are at the end of the log.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from infra.apps.bench import audience, cpu
from infra.apps.bench.load import NotMeasured
from infra.apps.bench.services import Logged, up, wait
from infra.kafka import kafka_client
from infra.kafka.names import topic_partition
from infra.local.supervisor import Supervisor
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.flows import GENERATIONAL
from schemas.keys import Keyspace
from schemas.state import fences, tables
from schemas.topics import EVENTS

FLOWS: Final = tuple(reversed(GENERATIONAL))
"""`people` last: the clock starts with its first commit."""
_SCAN_COUNT: Final = 2_000


class Run(NamedTuple):
    """One replay. `cpu_us`: microseconds of CPU per event, by component."""

    events_per_s: float
    cpu_us: dict[str, float]


class Consumed(NamedTuple):
    """A log as a bare kafka-python consumer reads and drops it: records/s, and µs of CPU a record."""

    records_per_s: float
    cpu_us: float


class ReplayFigures(NamedTuple):
    runs: list[Run]
    ceiling: list[Consumed]
    """Of the same log, before each run."""
    log: audience.WrittenLog
    partitions: int


def bare_consumer(settings: Settings, end_offsets: dict[int, int]) -> Consumed:
    """Our consumer from the first to the last record, which it drops, in this process."""
    consumer = kafka_client.consumer(settings)
    try:
        consumer.assign([topic_partition(settings, EVENTS.name, p) for p in end_offsets])
        consumer.seek_to_beginning()
        remaining, read, began, used = sum(end_offsets.values()), 0, 0.0, 0.0
        while remaining > 0:
            got = sum(map(len, consumer.poll(1000).values()))
            remaining -= got
            read += got if began else 0
            if not began:
                began, used = time.perf_counter(), time.process_time()
        cpu_us = (time.process_time() - used) * 1e6 / max(1, read)
        return Consumed(read / (time.perf_counter() - began), cpu_us)
    finally:
        consumer.close()


def replay(at: Logged, *beside: Supervisor) -> Run:
    """One replay into an empty Redis. `beside`: supervisors of other processes, which must keep running.

    Errors: `NotMeasured` where a process ended, or the state is not exactly what the log says.
    """
    log, keyspace = at.log, at.settings.keyspace
    with redis_client.connect(at.settings) as client, up(at.planned, FLOWS) as flows:
        all_ = (at.services, *beside, flows)
        pids: dict[str, list[int]] = {
            name: [supervisor.children[name].pid or 0]
            for supervisor in (at.services, flows)
            for name in ("broker", "redis", *FLOWS)
            if name in supervisor.children
        }
        first = wait(
            all_, lambda: sum(_fences(client, keyspace, log)), "the flow people commits nothing"
        )
        began, before = time.perf_counter(), cpu.cpu_of(pids)
        wait(
            all_,
            lambda: _fences(client, keyspace, log) == _end_offsets(log),
            "the flow people does not reach the end of the log",
        )
        seconds, folded = time.perf_counter() - began, cpu.cpu_of(pids)
        wait(
            all_,
            lambda: _tables(client, keyspace) == _end_offsets(log),
            "the flow rollup does not reach the end of the log",
        )
        summed = {**cpu.cpu_of(pids), "people": folded["people"]}
        check(client, keyspace, log)
    events = log.records - int(first)
    return Run(events / seconds, cpu.per_event(before, summed, events))


def empty(at: Logged) -> None:
    """Empties Redis, which is the bench's own."""
    with redis_client.connect(at.settings) as client:
        client.flushall()


def _end_offsets(log: audience.WrittenLog) -> list[int]:
    return [log.end_offsets[p] for p in sorted(log.end_offsets)]


def _fences(client: Client, keyspace: Keyspace, log: audience.WrittenLog) -> list[int]:
    held = client.mget([keyspace.fence("people", p) for p in sorted(log.end_offsets)])
    return [fences.decode(it).offset if it else 0 for it in held]


def _tables(client: Client, keyspace: Keyspace) -> list[int]:
    held = client.get(keyspace.tables().meta)
    return list(tables.META_DECODER.decode(held).positions) if held else []


def check(client: Client, keyspace: Keyspace, log: audience.WrittenLog) -> None:
    """Checks that each event is counted once. Errors: `NotMeasured`: the rate of a wrong fold is void."""
    from models.features.registry import read_rows

    counted = people = 0
    names: list[bytes] = list(client.scan_iter(match=keyspace.rows_pattern(), count=_SCAN_COUNT))
    for at in range(0, len(names), _SCAN_COUNT):
        rows = read_rows(client.mget(names[at : at + _SCAN_COUNT]))
        counted += int(rows["counts"].sum())
        people += len(rows)
    if (counted, people) != (log.distinct, log.people):
        raise NotMeasured(
            f"the replay is not exact: {counted:,} events of {people:,} people are counted, the log"
            f" holds {log.distinct:,} of {log.people:,}"
        )
