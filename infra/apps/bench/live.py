"""A whole system, as `freshet up` runs it, for the benchmarks that load one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from infra.apps.bench import cpu
from infra.apps.bench.load import Generator, NotMeasured
from infra.apps.bulk_import.catalogue import send_catalogue
from infra.apps.bulk_import.system import Endpoint
from infra.datasets import movielens
from infra.datasets.generated import generated
from infra.datasets.movielens import Dataset
from infra.local import system as supervise
from infra.local.system import System
from infra.store import redis_client
from schemas.state import fences, tables

_STALL_SECONDS: Final = 120.0
_CALM_SECONDS: Final = 10.0
_CALM_SHARE: Final = 0.15
"""Share of a core."""
Announce = Callable[[str], None]


def catalogue() -> Dataset:
    """MovieLens where it is found, else generated data."""
    folder = movielens.find()
    return movielens.load(folder) if folder else generated()


@contextmanager
def loaded(
    folder: Path, generator: Generator, source: Dataset, announce: Announce
) -> Iterator[tuple[System, Generator]]:
    """A system that has applied all of `source`, and the generator with its address."""
    with supervise.running(folder) as system:
        announce(
            f"importing {len(source.items):,} items, {len(source.ratings):,} events: {source.source}"
        )
        send_catalogue(Endpoint(system.url, system.token), source)
        settle(system)
        yield system, generator._replace(url=system.url, token=system.token)
        restarted = [it.name for it in system.state().processes if it.restarts]
        if restarted:
            raise NotMeasured(
                f"{', '.join(restarted)} ended and was restarted: the figures are void"
            )


def settle(system: System) -> None:
    """Waits until people and tables have reached the end of the log. Errors: `NotMeasured`."""
    from infra.kafka.offsets import offsets
    from schemas.topics import EVENTS

    until, before = time.monotonic() + _STALL_SECONDS, ([0], [0])
    keyspace = system.settings.keyspace
    with redis_client.connect(system.settings) as client:
        while True:
            end_offsets = [
                end
                for _, (_, end) in sorted(
                    offsets(system.settings, [EVENTS.name])[EVENTS.name].items()
                )
            ]
            folded = folded_offsets(client.mget(fence_keys(system)))
            meta = client.get(keyspace.tables().meta)
            summed = (
                list(tables.META_DECODER.decode(meta).positions) if meta else [0] * len(end_offsets)
            )
            if folded == end_offsets == summed:
                return
            if (folded, summed) != before:  # slow is not stuck
                before, until = (folded, summed), time.monotonic() + _STALL_SECONDS
            if time.monotonic() > until:
                raise NotMeasured(
                    "people and tables are not at the end of the log, and have not moved for"
                    f" {_STALL_SECONDS:.0f} s"
                )
            time.sleep(0.25)


def fence_keys(system: System) -> list[bytes]:
    """The keys of the fences of `people`, by partition."""
    settings = system.settings
    return [settings.keyspace.fence("people", p) for p in range(settings.partitions)]


def folded_offsets(held: list[bytes | None]) -> list[int]:
    """The offset up to which each of the fences says that its partition is folded."""
    return [fences.decode(it).offset if it else 0 for it in held]


def calm(look: Callable[[], Mapping[str, float]]) -> None:
    """Waits until edge and broker are nearly idle, for at most `_CALM_SECONDS`. `look` gives their seconds
    of CPU."""
    until, last = time.monotonic() + _CALM_SECONDS, look()
    while time.monotonic() < until:
        time.sleep(0.25)
        now = look()
        if all(now[name] - last[name] < _CALM_SHARE * 0.25 for name in ("edge", "broker")):
            return
        last = now


def idle_cores(look: Callable[[], Mapping[str, float]], seconds: float) -> dict[str, float]:
    """Cores that each component uses in `seconds` without work."""
    began, before = time.monotonic(), look()
    time.sleep(seconds)
    after, took = look(), time.monotonic() - began
    return {name: (after[name] - before[name]) / took for name in before}


def cpu_by_component(system: System) -> dict[str, float]:
    """CPU seconds so far by component, summed over workers. `edge` is serving."""
    pids: dict[str, list[int]] = {}
    for it in system.state().processes:
        if it.pid and it.name != "setup":
            stem, _, number = it.name.rpartition("-")
            name = stem if number.isdigit() else it.name
            pids.setdefault(name.replace("serving", "edge"), []).append(it.pid)
    return cpu.cpu_of(pids)


def refuse_errors(report: dict[str, Any]) -> None:
    """Errors: `NotMeasured` where a request of a generator's report failed."""
    wrong = {name: count for name, count in report["errors"].items() if count}
    if wrong:
        listed = ", ".join(f"{count} {name}" for name, count in wrong.items())
        raise NotMeasured(f"of {report['scheduled']} requests some failed: {listed}")
