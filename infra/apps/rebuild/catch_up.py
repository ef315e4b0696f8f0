"""The flows of a new generation, run until they reach the end of the log."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from kafka import KafkaConsumer

from flows.rebuild.fill import Stuck, fence_positions
from infra.kafka import kafka_client
from infra.kafka.names import topic_partition
from infra.local.plan import FRESHET, child_environment
from infra.local.supervisor import last_line
from infra.settings import Settings
from infra.signals import die_with_parent
from infra.store.redis_client import Client
from schemas.flows import REBUILT
from schemas.state import tables
from schemas.topics import EVENTS

MAX_LAG_RECORDS: Final = 500
"""The lag of a partition that counts as caught up: the log grows, so flows never reach its end exactly."""
STALL_SECONDS: Final = 60.0


@contextmanager
def flows(settings: Settings, generation: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs the rebuilt flows for `generation`, as processes that are terminated at the end of the context."""
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    running = []
    for name in REBUILT:
        with (logs / f"rebuild-{name}.log").open("wb") as output:
            running.append(
                subprocess.Popen(
                    [*FRESHET, "flows", "run", name, "--generation", str(generation)],
                    env={**child_environment(settings), "FRESHET_METRICS_PORT": "0"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=die_with_parent(),
                )
            )
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def catch_up(
    client: Client,
    settings: Settings,
    generation: int,
    running: list[subprocess.Popen[bytes]],
    folded: Callable[[int], None],
) -> None:
    """Returns once people and tables of the generation have caught up with the log. Errors: `Stuck`.

    `folded` is called with the number of records since its last call.
    """
    with closing(kafka_client.consumer(settings)) as log:
        _catch_up(client, settings, generation, running, folded, log)


def _catch_up(
    client: Client,
    settings: Settings,
    generation: int,
    running: list[subprocess.Popen[bytes]],
    folded: Callable[[int], None],
    log: KafkaConsumer,
) -> None:
    partitions = [topic_partition(settings, EVENTS.name, p) for p in range(settings.partitions)]
    before = [fence.offset for fence in fence_positions(client, settings, generation)]
    moved = time.monotonic()
    while True:
        _check_alive(settings, running)
        by_partition = log.end_offsets(partitions)
        end_offsets = [by_partition[it] for it in partitions]
        offsets = [fence.offset for fence in fence_positions(client, settings, generation)]
        published = _published(client, settings, generation)
        if all(
            end - at <= MAX_LAG_RECORDS for end, at in zip(end_offsets, offsets, strict=True)
        ) and all(
            end - at <= 4 * MAX_LAG_RECORDS for end, at in zip(end_offsets, published, strict=True)
        ):
            return
        if offsets != before:
            folded(sum(offsets) - sum(before))
            before, moved = offsets, time.monotonic()
        elif time.monotonic() - moved > STALL_SECONDS:
            raise Stuck(
                f"the new generation made no progress for {STALL_SECONDS:g} s: see logs/rebuild-*.log"
            )
        time.sleep(0.1)


def _published(client: Client, settings: Settings, generation: int) -> list[int]:
    meta = client.get(settings.keyspace.in_generation(generation).tables().meta)
    return tables.META_DECODER.decode(meta).positions if meta else [0] * settings.partitions


def _check_alive(settings: Settings, running: list[subprocess.Popen[bytes]]) -> None:
    for process, name in zip(running, REBUILT, strict=True):
        if process.poll() is not None:
            error = last_line(settings.data_dir / "logs" / f"rebuild-{name}.log")
            raise Stuck(f"the new generation's {name} ended: {error}")
