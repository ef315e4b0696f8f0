"""Broker and Redis of a data folder in which no system runs, for a command that works on what they hold.

State that another version made stops the flows, and `freshet up` with them: only a rebuild can go first.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from infra.local import home
from infra.local.plan import child_environment, plan, service_programs
from infra.local.supervisor import Supervisor
from infra.settings import Settings
from schemas.errors import FreshetError

START_SECONDS: Final = 60.0


class NotStarted(FreshetError):
    """Broker or Redis do not start; the text says why."""


def has_state(directory: Path) -> bool:
    """Whether a system ran in this folder with a broker and a Redis of its own."""
    return all(any((directory / name).glob("*")) for name in ("broker", "redis"))


@contextlib.contextmanager
def services(directory: Path, report: Callable[[str], None]) -> Iterator[Settings]:
    """The settings of the folder's broker and Redis, which run until the end of the context. No system can
    start in the folder meanwhile. Errors: `Unusable`, `NoService`, `BadSetting`, `NotStarted`."""
    with home.claimed(directory) as folder:
        planned = plan(folder, os.environ)
        environment = child_environment(planned.settings)
        started = Supervisor(service_programs(planned), folder / "logs", environment, report)
        try:
            _await_ready(started)
            yield planned.settings
        finally:
            started.stop()


def _await_ready(started: Supervisor) -> None:
    stop = threading.Event()
    until = time.monotonic() + START_SECONDS

    def look() -> None:
        if started.was_ready or time.monotonic() > until:
            stop.set()

    started.run(stop, before_tick=look)
    if not started.was_ready:
        raise NotStarted(started.failure or f"not ready after {START_SECONDS:g} s")
