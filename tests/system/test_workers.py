"""Processes that share the partitions of `events`: their number changes while events flow, nothing is
lost, nothing counts twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.kafka import kafka_client
from infra.local import services
from infra.local.workers import Workers
from infra.settings import Settings, to_environment
from infra.signals import die_with_parent
from infra.store import redis_client
from models.features.registry import FEATURES, read_row
from models.reference import recents
from schemas import events
from schemas.identity import partition_of
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.topics import EVENTS
from tests.flows.faults import traffic, whole_log

pytestmark = [pytest.mark.check, pytest.mark.timeout(120)]


class Crowd:
    """Sends events, a few hundred a second, and notes when each was acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._stop = settings, threading.Event()
        self.acknowledged: dict[int, list[tuple[float, int]]] = {}
        """Partition -> (time in s, offset)."""
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        producer = kafka_client.producer(self._settings)
        for made in traffic(100_000, 200, random.Random(1)):
            key = made.person.encode()
            p = partition_of(key, self._settings.partitions)
            value = events.encode(made)
            metadata = producer.send(EVENTS.name, key=key, value=value, partition=p).get(10)
            self.acknowledged.setdefault(p, []).append((time.monotonic(), metadata.offset))
            if self._stop.wait(0.002):
                break
        producer.close()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


class Watch:
    """Polls the fences and notes when each moved."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._stop = settings, threading.Event()
        self.seen: dict[int, list[tuple[float, int]]] = {p: [] for p in range(settings.partitions)}
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        with redis_client.connect(self._settings) as client:
            while not self._stop.wait(0.01):
                for p, moves in self.seen.items():
                    held = client.get(PLAIN.fence("people", p))
                    at = fences.decode(held).offset if held else 0
                    if not moves or at > moves[-1][1]:
                        moves.append((time.monotonic(), at))

    def longest(self, begun: float, crowd: Crowd) -> float:
        """The longest time from acknowledgement to fold of the events since `begun`, s."""
        waits = [0.0]
        for p, sent in crowd.acknowledged.items():
            moves = iter(self.seen[p])
            moved = next(moves)
            for at, offset in sent:
                while moved[1] <= offset:
                    moved = next(moves)
                if at >= begun:
                    waits.append(moved[0] - at)
        return max(waits)

    def end(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def shared(settings: Settings, tmp_path: Path) -> Iterator[Workers]:
    """`freshet flows run people --workers 1`, ready."""
    with (tmp_path / "workers.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli", "flows", "run", "people", "--workers", "1"],
            env={**os.environ, **to_environment(settings), "OPENBLAS_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    workers = Workers(settings.data_dir)
    try:
        services.wait_until(lambda: workers.running == 1, 30, "no supervisor runs")
        yield workers
        process.terminate()
        assert process.wait(20) == 0, (tmp_path / "workers.log").read_text()
        assert workers.running == 0
    finally:
        process.kill()
        process.wait()


def fence_offsets(settings: Settings) -> list[int]:
    with redis_client.connect(settings) as client:
        held = [client.get(PLAIN.fence("people", p)) for p in range(settings.partitions)]
    return [fences.decode(it).offset if it else 0 for it in held]


def logs(settings: Settings) -> dict[int, list[tuple[int, bytes]]]:
    return whole_log(settings)


def wrong_fields(settings: Settings, client: Any) -> int:
    """Fields of people that are not what the log says."""
    count = 0
    for p, records in logs(settings).items():
        by_person = recents.by_person(
            [(offset, events.decode_stored(value)) for offset, value in records]
        )
        for person, mine in by_person.items():
            row = read_row(client.get(PLAIN.row(p, person)))
            count += sum(it.value(row) != it.reference(mine) for it in FEATURES)
    return count


def test_the_number_of_workers_changes_while_events_flow(
    settings: Settings, shared: Workers
) -> None:
    crowd, watch = Crowd(settings), Watch(settings)
    changed: list[tuple[int, float]] = []
    try:
        services.wait_until(
            lambda: all(fence_offsets(settings)), 30, "not every partition is folded"
        )
        for count in (2, 3):
            changed.append((count, time.monotonic()))
            shared.request(count)
            services.wait_until(lambda n=count: shared.running == n, 30, "it is not heard")  # type: ignore[misc]
            before = fence_offsets(settings)
            services.wait_until(
                lambda b=before: all(
                    now > then for now, then in zip(fence_offsets(settings), b, strict=True)
                ),  # type: ignore[misc]
                30,
                "a partition stands still",
            )
    finally:
        crowd.end()
        sent = sum(map(len, crowd.acknowledged.values()))
        services.wait_until(lambda: sum(fence_offsets(settings)) == sent, 30, "not all is folded")
        watch.end()
    for count, begun in changed:
        print(
            f"to {count}: an event waited {watch.longest(begun, crowd):.2f} s at most from then on"
        )
    with redis_client.connect(settings) as client:
        assert wrong_fields(settings, client) == 0
    assert sent == sum(map(len, logs(settings).values())) > 100


def test_scale_names_the_program_that_runs_workers(settings: Settings, shared: Workers) -> None:
    from click.testing import CliRunner

    from infra.cli.main import cli

    def scale(n: int) -> Any:
        return CliRunner(env=to_environment(settings)).invoke(cli, ["flows", "scale", str(n)])

    assert scale(2).output == "2 workers share 4 partitions\n"
    assert shared.running == 2
    assert scale(5).exit_code == 2
    shared.ended()
    done = scale(3)
    assert done.exit_code == 1
    assert "no process runs workers in" in done.output
