"""`rollup`: adds up the partitions' facts, and publishes the tables that readers use.

delta logs ─ wait ─ apply ─ publish (tables, a version) ─ readouts ─ marks ─ store (base, positions) ─ trim

It reads the streams that `people` writes with its commits, so it is no Kafka dataflow: its log is in Redis,
and its fence is the vector of positions in its base.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, closing
from functools import partial

from flows.kit.generation import run_live
from flows.kit.metrics import FlowMetrics
from flows.rollup.cycle import Cycle
from flows.rollup.marks import Marks
from flows.rollup.readouts import Readouts
from flows.rollup.tables import Overtaken, Rollup
from flows.rollup.wake import Wake
from infra import heartbeat
from infra.settings import Settings
from infra.store import redis_client

log = logging.getLogger(__name__)


def run(settings: Settings, generation: int | None = None) -> None:
    """Runs the roll-up until SIGTERM, in `generation` or in the live one.

    Errors: `Overtaken`, `Hole`, Redis's.
    """
    run_live(settings, partial(_run, settings, generation is None), generation)


def _run(settings: Settings, with_readouts: bool, generation: int, stop: threading.Event) -> None:
    with redis_client.connect(settings) as client:
        redis_client.check(client)
        rollup, metrics = Rollup(client, settings, generation), FlowMetrics(settings, "rollup")
        log.info("rollup starts at %s", rollup.tables.positions)
        with ExitStack() as opened:
            readouts = marks = None
            if with_readouts:
                readouts = opened.enter_context(closing(Readouts(settings, client)))
                marks = opened.enter_context(closing(Marks(settings, client)))
            cycle = Cycle(rollup, readouts, metrics, settings, marks)
            wake = Wake(client, settings, rollup, marks, metrics)
            opened.enter_context(metrics.exposed())
            opened.enter_context(metrics.counting_failures(fenced=Overtaken))
            opened.enter_context(heartbeat.watched_loop())
            while not stop.is_set():
                stop.wait(cycle.step())
                wake.wait(stop, cycle.idle_seconds)
            cycle.finish()
