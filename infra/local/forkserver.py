"""Processes that start in milliseconds, forked from one that has imported their modules.

An interpreter takes a second to import the modules of a flow or a serving worker. Where many processes
start at once, as after a fault, that second is most of the wait.

    supervisor ──socket── fork server ──fork── (ends at once) ──fork── child

The child is an orphan on purpose: the supervisor is its subreaper (prctl(2)) and becomes its parent. So the
supervisor can wait for the child; the child outlives the fork server and dies with the supervisor. A fork
copies one thread only: no module that is imported here may have started another. Linux only; elsewhere, and
without a fork server, a process has an interpreter of its own.
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
    """A request to start one process, `python -m module arguments`, with this whole environment."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    log: str


class Forked:
    """A forked process, a child of this one; `returncode` is None until `wait`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class ForkServer(Launcher):
    """Forks `python -m …` commands from a process that has imported `modules`; other commands get an
    interpreter of their own.

    Use it in one thread; all processes are children of this one. `close` ends the fork server alone. A fork
    server that does not answer in `seconds` is replaced.
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
        self._serving = False
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            self._begin()

    @property
    def ready(self) -> bool:
        """False while the fork server imports."""
        if self._process is None or self._serving:
            return True
        assert self._channel
        try:
            message = self._channel.recv(len(READY), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            message = b""
        self._serving = message == READY
        if not self._serving:
            self.close()
        return True

    @property
    def failure(self) -> str:
        """The reason why there is no fork server; "" while one runs."""
        return "" if self._process else last_line(self._log) or "this is not Linux"

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        if list(command[:2]) == [sys.executable, "-m"] and self.ready and self._channel:
            module, *arguments = command[2:]
            try:
                return self._request(SpawnRequest(module, arguments, dict(environment), str(log)))
            except (OSError, ValueError):
                self.close()
                self._begin()  # for the next processes
        return super().spawn(command, environment, log)

    def close(self) -> None:
        if self._channel:
            self._channel.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._channel = None

    def _request(self, request: SpawnRequest) -> Forked:
        assert self._channel
        self._channel.settimeout(self._seconds)
        self._channel.send(msgspec.json.encode(request))
        return Forked(int(self._channel.recv(64)))

    def _begin(self) -> None:
        self._serving = False
        # one message is one whole request
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
    """Returns in each child, with the child's request; returns None when the channel is closed.

    Errors: RuntimeError where importing has started a thread.
    """
    supervisor = os.getppid()
    for module in modules:
        importlib.import_module(module)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a module that is imported before forking has started a thread")
    gc.collect()
    gc.freeze()  # no collection of a child's copies these pages
    channel.send(READY)
    while message := channel.recv(MAX_REQUEST_BYTES):
        if intermediate := os.fork():
            os.waitpid(intermediate, 0)
            continue
        intermediate = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == intermediate:
            time.sleep(0.0005)
        die_with(supervisor)
        return msgspec.json.decode(message, type=SpawnRequest)
    return None


def execute(request: SpawnRequest, channel: socket.socket) -> None:
    """Sends its pid first, then runs the requested module in this process. Errors: OSError."""
    os.setsid()
    with channel:
        channel.send(b"%d" % os.getpid())
    with open(request.log, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = [request.module, *request.arguments]
    # before the environment is cleared: setproctitle needs its memory
    setproctitle.setproctitle(" ".join([sys.executable, "-m", *sys.argv]))
    os.environ.clear()
    os.environ.update(request.environment)
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    if request := serve(channel, sys.argv[2:]):
        execute(request, channel)


if __name__ == "__main__":
    main()
