"""Running a dataflow: until it is told to stop, or until its partition is no longer its own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import timedelta
from types import FrameType

from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

EPOCH = timedelta(seconds=10)  # the engine keeps no state of ours: its epochs may be long


def stop_on_signals(stop: threading.Event) -> None:
    """SIGTERM and SIGINT let the batch in hand commit, then end the flow."""

    def asked(signum: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)


def run(flow: Dataflow) -> None:
    """Runs in this thread. Errors: the step's own, not the engine's wrapping of it."""
    os.environ.setdefault("RUST_BACKTRACE", "0")  # a step's error is one sentence, not 60 frames
    try:
        run_main(flow, epoch_interval=EPOCH)  # type: ignore[no-untyped-call]
    except BaseException as error:
        cause = root(error)
        logging.getLogger(__name__).error("%s", cause)
        raise cause from None


def root(error: BaseException) -> BaseException:
    """The first cause: the engine wraps what a step raises in one RuntimeError per layer."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
