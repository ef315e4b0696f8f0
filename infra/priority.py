"""Which of the processes that share a machine goes first."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def lower_priority(nice: int) -> None:
    """Lets other processes go first, as `os.nice` does; also those of other sessions, where Linux gives each
    session its share whatever its processes say (sched(7), autogroup)."""
    os.nice(nice)
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # there is no such thing here
            Path("/proc/self/autogroup").write_text(str(nice))
