"""Processes of ours that tests start: forked from one that has imported what they need.

An interpreter of their own would take most of a second of CPU to be where these are at once, and a run of
the suite starts a hundred.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from infra.local.forkserver import ForkServer
from infra.local.launcher import Process
from infra.local.plan import PRELOAD, child_environment
from infra.settings import Settings
from tests.support.waits import until


class Started:
    """A child of this process, with as much of `subprocess.Popen` as tests ask for."""

    def __init__(self, process: Process) -> None:
        self._process, self.pid = process, process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if self.returncode is None and os.waitid(os.P_PID, self.pid, flags):
            self._process.wait()
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """Errors: `subprocess.TimeoutExpired`."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(module: str, *arguments: str, environment: Mapping[str, str], log: Path) -> Started:
    """`python -m module arguments`, which dies with this process; what it prints is appended to `log`."""
    command = [sys.executable, "-m", module, *arguments]
    return Started(_server().spawn(command, {**os.environ, **environment}, log))


@cache
def _server() -> ForkServer:
    """The fork server; it exits with this process. Its output is dropped: processes start without it, too."""
    server = ForkServer(PRELOAD, child_environment(Settings()), Path(os.devnull))
    until(lambda: server.ready)
    return server
