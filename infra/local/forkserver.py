"""Processes that start in milliseconds, forked from one that has imported what they need.

An interpreter takes a second to import what a flow or a serving worker stands on. Where many processes
start at once, as after a fault, that second is most of what everybody waits for.

    supervisor ──socket── fork server ──fork── (ends at once) ──fork── child

The child is an orphan on purpose: the supervisor is its subreaper (prctl(2)) and becomes its parent, so it
can be waited for, outlives the fork server and dies with the supervisor. A fork copies one thread only:
nothing that is imported here may have started another. Linux only; elsewhere, and while no fork
server is there, a process has an interpreter of its own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import setproctitle

from infra.local.launcher import Launcher, Process
from infra.local.supervisor import last_line
from infra.signals import die_with, die_with_parent

READY: Final = b"ready"
MAX_REQUEST_BYTES: Final = 1 << 20
ANSWER_SECONDS: Final = 5.0
_PR_SET_CHILD_SUBREAPER: Final = 36
_WITHOUT_THREADS: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Arrow's jemalloc would start a thread as it is imported."""


class SpawnRequest(msgspec.Struct):
    """One process, please: `python -m module arguments`."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    log: str


class Forked:
    """A process that was forked for this one, and is its child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class ForkServer(Launcher):
    """Forks `python -m …` commands from a process that has imported `modules`; others it starts plainly.

    Use it in one thread; what it starts are children of this process. `close` ends the fork server alone.
    One that does not answer in `seconds` is given up, and another one begun.
    """

    def __init__(
        self,
        modules: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._seconds = seconds
        self._modules, self._environment, self._log = (
            modules,
            {**environment, **_WITHOUT_THREADS},
            log,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._served = False
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self._begin()

    @property
    def ready(self) -> bool:
        """False while it imports."""
        if self._process is None or self._served:
            return True
        assert self._channel
        try:
            told = self._channel.recv(len(READY), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            told = b""
        self._served = told == READY
        if not self._served:
            self.close()
        return True

    @property
    def failure(self) -> str:
        """Why it does not serve, "" where it does or still may."""
        return "" if self._process else last_line(self._log) or "this is not Linux"

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        if list(command[:2]) == [sys.executable, "-m"] and self.ready and self._channel:
            module, *arguments = command[2:]
            try:
                return self._ask(SpawnRequest(module, arguments, dict(environment), str(log)))
            except (OSError, ValueError):
                self.close()
                self._begin()  # for those after this one
        return super().spawn(command, environment, log)

    def close(self) -> None:
        if self._channel:
            self._channel.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._channel = None

    def _ask(self, order: SpawnRequest) -> Forked:
        assert self._channel
        self._channel.settimeout(self._seconds)
        self._channel.send(msgspec.json.encode(order))
        return Forked(int(self._channel.recv(64)))

    def _begin(self) -> None:
        self._served = False
        # one message is one order, whole
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "infra.local.forkserver",
                    str(theirs.fileno()),
                    *self._modules,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
                preexec_fn=die_with_parent(),
                pass_fds=[theirs.fileno()],
            )


def serve(channel: socket.socket, modules: Sequence[str]) -> SpawnRequest | None:
    """Returns in each child, with what it is to be; None once nobody can ask any more.

    Errors: RuntimeError where importing has started a thread.
    """
    supervisor = os.getppid()
    for module in modules:
        importlib.import_module(module)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("what is imported before forking has started a thread")
    gc.collect()
    gc.freeze()  # no collection of a child's copies these pages
    channel.send(READY)
    while message := channel.recv(MAX_REQUEST_BYTES):
        if between := os.fork():
            os.waitpid(between, 0)
            continue
        between = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.0005)
        die_with(supervisor)
        return msgspec.json.decode(message, type=SpawnRequest)
    return None


def execute(order: SpawnRequest, channel: socket.socket) -> None:
    """Is that process from now on; tells its pid before it does anything. Errors: OSError."""
    os.setsid()
    with channel:
        channel.send(b"%d" % os.getpid())
    with open(order.log, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = [order.module, *order.arguments]
    # first: it needs the environment where it was
    setproctitle.setproctitle(" ".join([sys.executable, "-m", *sys.argv]))
    os.environ.clear()
    os.environ.update(order.environment)
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    if order := serve(channel, sys.argv[2:]):
        execute(order, channel)


if __name__ == "__main__":
    main()
