"""Runs a flow in the live generation, and in the next one once that is live."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flows.kit.run import run_with_retries, stop_on_signals
from infra.settings import Settings
from infra.store import generation, redis_client

Run = Callable[[int, threading.Event], None]
"""Runs a flow in a generation until the event is set."""


def run_live(settings: Settings, run: Run, only: int | None = None) -> None:
    """Calls `run` until SIGTERM, in generation `only` or in the live one.

    Errors: those of `run` and `run_with_retries`.
    """
    ended = threading.Event()
    stop_on_signals(ended)

    def run_once() -> None:
        if only is not None:
            run(only, ended)
            return
        with redis_client.connect(settings) as client:
            live = generation.live(client, settings.keyspace)
        with generation.until_moved(settings, live, ended) as stop:
            run(live, stop)

    run_with_retries(settings, ended, run_once)
