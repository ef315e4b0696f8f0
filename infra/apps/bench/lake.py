"""The cost of writing the lake: a replay with the flow `lake` beside it.

As in production the flow is a process of its own with its own nice value. It runs when the replay begins.
It writes every `WRITE_SECONDS`, not every 5 s, since a replay takes less than 5 s.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from flows.lake.partition import flow_name
from infra.apps.bench import replay
from infra.apps.bench.services import Logged, up, wait
from infra.lake.reader import Lake
from infra.local.supervisor import Supervisor
from infra.store import redis_client
from schemas.topics import EVENTS

WRITE_SECONDS: Final = 1.0
FLOW: Final = "lake"


class Beside(NamedTuple):
    """A replay with the flow `lake` beside it. `written`: share of the log in the lake at its end."""

    events_per_s: float
    written: float


def beside(at: Logged) -> Beside:
    """Empties Redis and lake, then measures; afterwards the lake holds the log. Errors: `NotMeasured`."""
    with _writing(at) as flow:
        run = replay.replay(at, flow)
        done = sum(_end_offsets(at)) / at.log.records
        _to_the_end(at, flow)
    return Beside(run.events_per_s, done)


def fill(at: Logged) -> None:
    """Writes the log into an empty lake. Errors: `NotMeasured`."""
    with _writing(at) as flow:
        _to_the_end(at, flow)


@contextmanager
def _writing(at: Logged) -> Iterator[Supervisor]:
    replay.empty(at)
    shutil.rmtree(at.settings.data_dir / "lake", ignore_errors=True)
    settings = msgspec.structs.replace(at.settings, lake_seconds=WRITE_SECONDS)
    planned = dataclasses.replace(at.planned, settings=settings)
    with up(planned, (FLOW,)) as flow, redis_client.connect(settings) as client:
        fence = settings.keyspace.fence(flow_name(EVENTS.name), settings.partitions - 1)
        wait((at.services, flow), lambda: client.exists(fence), "the flow lake does not start")
        yield flow


def _to_the_end(at: Logged, flow: Supervisor) -> None:
    wait(
        (at.services, flow),
        lambda: _end_offsets(at) == at.end_offsets,
        "the flow lake does not reach the end of the log",
    )


def _end_offsets(at: Logged) -> list[int]:
    lake = Lake.of(at.settings)
    return [lake.bounds(EVENTS.name, p)[1] for p in range(at.settings.partitions)]
