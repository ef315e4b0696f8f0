"""How a process of ours ends where Python's own way is too late: at once, or with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_at_once() -> None:
    """From now on SIGTERM and SIGINT end this process where it is, with exit code 0: for one whose work may
    be cut anywhere. Call it before any thread is started.

    A thread waits for them: a handler of Python's runs only once the main thread is out of whatever C it is
    in, and on a busy machine a sort or a compression takes longer than anybody's grace.
    """
    ends = (signal.SIGTERM, signal.SIGINT)
    for number in ends:  # where a library's thread takes it
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)

    def wait() -> None:
        signal.sigwait(ends)
        os._exit(0)

    threading.Thread(target=wait, name="end at once", daemon=True).start()


def die_with_parent(number: int = signal.SIGKILL) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel signals the child when its parent is gone, by whatever cause.

    None where there is no such thing (not Linux).
    """
    if not sys.platform.startswith("linux"):
        return None
    return partial(die_with, os.getpid(), number, ctypes.CDLL(None))


def die_with(parent: int, number: int = signal.SIGKILL, libc: ctypes.CDLL | None = None) -> None:
    """The kernel signals this process when its parent is gone; it ends at once where that has happened.
    Nothing of it where there is no such thing."""
    if not sys.platform.startswith("linux"):
        return
    (libc or ctypes.CDLL(None)).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
