"""Replay: how fast `people` folds a log that is already there, as production runs it, and exactly.

One worker owns all partitions; roll-up and relay run beside it. The clock starts when the first
batch is committed (a start is no throughput) and stops when the fences stand at the log's end.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

from infra import home, kafka, store
from infra.cli import bench_cpu, bench_log
from infra.cli.bench_load import NotMeasured
from infra.plan import Plan, child_environment, plan, programs
from infra.processes import Supervisor, last_line
from infra.settings import VARIABLES, Settings
from infra.store import Client
from schemas import fence as fences
from schemas import keys, tables
from schemas.topics import EVENTS

SERVICES: Final = ("broker", "redis", "setup")
FLOWS: Final = ("rollup", "relay", "people")
EVENTS_COUNT: Final = 300_000
_PATIENCE: Final = 180.0
_POLL: Final = 0.004
_SCAN: Final = 2_000
Say = Callable[[str], None]


class Run(NamedTuple):
    """One replay. `cpu_us`: microseconds of CPU per event, by component."""

    events_per_s: float
    cpu_us: dict[str, float]


class Replay(NamedTuple):
    runs: list[Run]
    ceiling: list[float]
    """Events/s of a bare kafka-python consumer on the same log: reads, does nothing."""
    log: bench_log.Written
    partitions: int


def measure(
    folder: Path, repeats: int, say: Say = lambda line: None, count: int = EVENTS_COUNT
) -> Replay:
    """Writes a log of `count` events and replays it `repeats` times, Redis emptied between.

    Errors: `NotMeasured` where a process fell, or the state is not exactly what the log says.
    """
    with home.claimed(folder) as directory:
        planned = plan(directory, {})
        with _up(planned, SERVICES) as services:
            _wait(services, lambda: services.was_ready, "broker and Redis are not ready")
            say(f"replay: writing {count:,} events")
            log = bench_log.write(planned.settings, count)
            runs, ceiling = [], []
            for number in range(repeats):
                ceiling.append(bare_consumer(planned.settings, log.ends))
                runs.append(_replay(planned, services, log))
                say(
                    f"replay {number + 1} of {repeats}: {runs[-1].events_per_s:,.0f} events/s"
                    f" (a bare consumer: {ceiling[-1]:,.0f})"
                )
    return Replay(runs, ceiling, log, planned.settings.partitions)


def bare_consumer(settings: Settings, ends: dict[int, int]) -> float:
    """Records/s of our consumer from the first to the last record, doing nothing with them."""
    consumer = kafka.consumer(settings)
    try:
        topics = {p: TopicPartition(EVENTS.name, p) for p in ends}
        consumer.assign(list(topics.values()))
        consumer.seek_to_beginning()
        left, read, began = sum(ends.values()), 0, 0.0
        while left > 0:
            got = sum(map(len, consumer.poll(1000).values()))
            left -= got
            read += got if began else 0
            began = began or time.perf_counter()
        return read / (time.perf_counter() - began)
    finally:
        consumer.close()


def _replay(planned: Plan, services: Supervisor, log: bench_log.Written) -> Run:
    client = store.connect(planned.settings)
    client.flushall()  # of the Redis that this bench started
    try:
        with _up(planned, FLOWS) as flows:
            both = (services, flows)
            pids: dict[str, list[int]] = {
                name: [supervisor.children[name].pid or 0]
                for supervisor in both
                for name in ("broker", "redis", *FLOWS)
                if name in supervisor.children
            }
            first = _wait(both, lambda: sum(_fences(client, log)), "people commits nothing")
            began, before = time.perf_counter(), bench_cpu.cpu_of(pids)
            _wait(
                both, lambda: _fences(client, log) == _ends(log), "people does not get to the end"
            )
            seconds, folded = time.perf_counter() - began, bench_cpu.cpu_of(pids)
            _wait(both, lambda: _tables(client) == _ends(log), "rollup does not get to the end")
            summed = {**bench_cpu.cpu_of(pids), "people": folded["people"]}
            _check(client, log)
    finally:
        client.close()
    events = log.records - int(first)
    return Run(events / seconds, bench_cpu.per_event(before, summed, events))


def _ends(log: bench_log.Written) -> list[int]:
    return [log.ends[p] for p in sorted(log.ends)]


def _fences(client: Client, log: bench_log.Written) -> list[int]:
    held = client.mget([keys.fence("people", p) for p in sorted(log.ends)])
    return [fences.decode(it).offset if it else 0 for it in held]


def _tables(client: Client) -> list[int]:
    held = client.get(keys.tables().meta)
    return list(tables.META_DECODER.decode(held).positions) if held else []


def _check(client: Client, log: bench_log.Written) -> None:
    """Everything counted once. Errors: `NotMeasured`: a rate of a wrong fold is no figure."""
    from models.features import read_rows

    counted = people = 0
    names: list[bytes] = list(client.scan_iter(match=b"u:*", count=_SCAN))
    for at in range(0, len(names), _SCAN):
        rows = read_rows(client.mget(names[at : at + _SCAN]))
        counted += int(rows["counts"].sum())
        people += len(rows)
    if (counted, people) != (log.distinct, log.people):
        raise NotMeasured(
            f"the replay is not exact: {counted:,} events of {people:,} people are counted, the log"
            f" holds {log.distinct:,} of {log.people:,}"
        )


@contextmanager
def _up(planned: Plan, names: Sequence[str]) -> Iterator[Supervisor]:
    """These programs of the plan, and no others; stopped at the end."""
    chosen = [
        dataclasses.replace(it, depends_on=[need for need in it.depends_on if need in names])
        for it in programs(planned)
        if it.name in names
    ]
    chosen.sort(key=lambda it: names.index(it.name))
    logs = planned.settings.data_dir / "logs"
    supervisor = Supervisor(chosen, logs, child_environment(planned.settings))
    try:
        supervisor.tick()
        yield supervisor
    finally:
        supervisor.stop()


def _wait(
    supervisors: Supervisor | Sequence[Supervisor], condition: Callable[[], Any], what: str
) -> Any:
    """Asks until `condition` is true, and answers what it said. Errors: `NotMeasured`."""
    many = [supervisors] if isinstance(supervisors, Supervisor) else supervisors
    until = time.monotonic() + _PATIENCE
    while not (said := condition()):
        for supervisor in many:
            supervisor.tick()
            for child in supervisor.children.values():
                if child.failures or supervisor.failure:
                    why = child.last_exit or last_line(child.log) or supervisor.failure
                    raise NotMeasured(f"{what}: {child.program.name} ended with {why}")
        if time.monotonic() > until:
            raise NotMeasured(f"{what} within {_PATIENCE:.0f} s")
        time.sleep(_POLL)
    return said


def clean_environment() -> None:
    """Forgets every setting: the bench writes nonsense, which must never reach somebody's own
    services, and its figures are those of the defaults."""
    for name in VARIABLES.values():
        os.environ.pop(name, None)
