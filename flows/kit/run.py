"""Runs a dataflow until a signal stops it, or until another worker takes its partition.

A flow that loses its Redis continues from its fence in the same process: a new process would import for a
second where nothing forks it (`infra.local.forkserver`).
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Final

from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.testing import run_main

from flows.kit.commit import WritesLost
from flows.kit.failure import Failure
from infra.backoff import Pauses
from infra.garbage import rare_collection
from infra.heartbeat import watched_loop
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client

log = logging.getLogger(__name__)
ENGINE_EPOCH = timedelta(seconds=10)  # the engine stores no state: its epochs may be long
FIRST_PAUSE_SECONDS: Final = 0.05


def stop_on_signals(stop: threading.Event) -> None:
    """SIGTERM and SIGINT let the batch in hand commit, then end the flow."""

    def set_stop(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, set_stop)
    signal.signal(signal.SIGINT, set_stop)


def run_flow(flow: Dataflow) -> None:
    """Runs the flow once, in this thread. Errors: those of its steps; the engine prints nothing."""
    failure = Failure(flow)
    try:
        with watched_loop(), rare_collection():
            run_main(flow, epoch_interval=ENGINE_EPOCH)  # type: ignore[no-untyped-call]
        cause = failure.error
    except BaseException as error:
        cause = failure.error or root_cause(error)
    if cause is not None:
        raise cause  # outside of `except`, so that it keeps its own context (`redis_client.is_away`)


def root_cause(error: BaseException) -> BaseException:
    """What a step raised, without the errors that the engine wraps around it."""
    while isinstance(error, BytewaxRuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def run_with_retries(
    settings: Settings, stop: threading.Event, run_once: Callable[[], None]
) -> None:
    """Calls `run_once` until `stop` is set, again each time that Redis was away or lost its last writes.

    `run_once` starts a flow from its fence and runs it. Errors: every other error of `run_once`, after
    which only a new process may continue; Redis's where the first connection fails.
    """
    with redis_client.connect(settings) as client:
        client.ping()
        pauses = Pauses(FIRST_PAUSE_SECONDS)
        while not stop.is_set():
            started = time.monotonic()
            try:
                run_once()
            except Exception as error:
                if not (isinstance(error, WritesLost) or redis_client.is_away(error)):
                    raise
                what = "lost its last writes" if isinstance(error, WritesLost) else "is away"
                log.warning("Redis %s (%s): continuing from the fence", what, error)
                _await_redis(client, stop, pauses.after(time.monotonic() - started))


def _await_redis(client: Client, stop: threading.Event, pause: float) -> None:
    """Waits `pause` s, then returns once Redis answers or `stop` is set."""
    while not stop.wait(pause):
        try:
            client.ping()
            return
        except Exception as error:
            if not redis_client.is_away(error):
                raise
