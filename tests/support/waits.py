"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Returns once `condition()` holds. Errors: `AssertionError` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether that process runs; one that exited and was not reaped does not."""
    return _stat(pid)[0] not in ("", "Z")


def members(group: int) -> list[int]:
    """The processes of a process group that run."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if alive(pid) and _stat(pid)[2] == str(group)]


def _stat(pid: int) -> list[str]:
    """State, parent, process group … of a process, as in proc(5); "" each where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [""] * 3
