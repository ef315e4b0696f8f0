"""Starting a process that dies with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

_PR_SET_PDEATHSIG: Final = 1


class Process(Protocol):
    """A child of this process, the first of its process group; `returncode` as `subprocess.Popen` has it."""

    pid: int
    returncode: int | None

    def wait(self) -> int: ...


class Launcher:
    """How processes are started: by an interpreter of their own. The fork server has a faster way."""

    @property
    def ready(self) -> bool:
        """Whether it is worth while to start what can wait."""
        return True

    def spawn(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Runs `command` with this whole environment; what it prints is appended to `log`. It dies with this
        process. Errors: OSError."""
        with log.open("ab") as output:
            return subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # a terminal's Ctrl-C reaches the supervisor alone
                preexec_fn=die_with_parent(),
            )


def die_with_parent(number: int = signal.SIGKILL) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel signals the child when its parent is gone, by whatever cause.

    None where there is no such thing (not Linux).
    """
    if not sys.platform.startswith("linux"):
        return None
    return partial(die_with, os.getpid(), number, ctypes.CDLL(None))


def die_with(parent: int, number: int = signal.SIGKILL, libc: ctypes.CDLL | None = None) -> None:
    """The kernel signals this process when its parent is gone; it ends at once where that has happened."""
    (libc or ctypes.CDLL(None)).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
