"""The priority of a process among those that share a machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def lower_priority(nice: int) -> None:
    """Lowers this process's priority by `nice`, as `os.nice` does.

    Linux gives each session its share of CPU whatever the niceness of its processes (sched(7), autogroup). So
    this lowers the session's share too, where this process leads its session.
    """
    os.nice(nice)
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # a kernel without autogroups
            Path("/proc/self/autogroup").write_text(str(nice))
