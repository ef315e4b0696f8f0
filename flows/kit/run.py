"""Running a dataflow: until it is told to stop, or until its partition is no longer its own.

A flow that loses its Redis goes on where its fence stands, in the same process: where nothing forks
it (`infra.local.forkserver`) another costs a second of imports, most of what everybody would wait for.
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
from infra.heartbeat import turning
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client

log = logging.getLogger(__name__)
ENGINE_EPOCH = timedelta(seconds=10)  # the engine keeps no state of ours: its epochs may be long
FIRST_PAUSE_SECONDS: Final = 0.05


def stop_on_signals(stop: threading.Event) -> None:
    """SIGTERM and SIGINT let the batch in hand commit, then end the flow."""

    def asked(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)


def run_flow(flow: Dataflow) -> None:
    """Runs in this thread, once. Errors: the step's own, of which the engine prints nothing."""
    failure = Failure(flow)
    try:
        with turning():
            run_main(flow, epoch_interval=ENGINE_EPOCH)  # type: ignore[no-untyped-call]
        cause = failure.error
    except BaseException as error:
        cause = failure.error or root_cause(error)
    if cause is not None:
        raise cause  # out here, for it to keep its own context (`store.is_away`)


def root_cause(error: BaseException) -> BaseException:
    """What a step raised: the engine wraps it in one of its errors per layer."""
    while isinstance(error, BytewaxRuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def run_with_retries(
    settings: Settings, asked: threading.Event, run_once: Callable[[], None]
) -> None:
    """Calls `run_once`, which starts a flow where its fence stands and runs it, until `asked`: anew each time
    Redis was away, or lost its last writes.

    Errors: the others of `run_once`, after which only a new process may go on; Redis's where it is not
    there to begin with.
    """
    with redis_client.connect(settings) as client:
        client.ping()
        pauses = Pauses(FIRST_PAUSE_SECONDS)
        while not asked.is_set():
            started = time.monotonic()
            try:
                run_once()
            except Exception as error:
                if not (isinstance(error, WritesLost) or redis_client.is_away(error)):
                    raise
                what = "lost its last writes" if isinstance(error, WritesLost) else "is away"
                log.warning("Redis %s (%s): going on where the fence stands", what, error)
                _await_redis(client, asked, pauses.after(time.monotonic() - started))


def _await_redis(client: Client, asked: threading.Event, pause: float) -> None:
    """Returns once Redis answers, after a pause at least."""
    while not asked.wait(pause):
        try:
            client.ping()
            return
        except Exception as error:
            if not redis_client.is_away(error):
                raise
