"""Ending a process where Python's own way is too late: at a signal at once, or with its parent."""

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
    """From now on SIGTERM and SIGINT end this process at once, with exit code 0, wherever it is.

    Must be called before any thread is started. A thread waits for the signals: Python runs a handler only
    once the main thread is out of C code, and on a busy machine a sort or a compression takes longer than a
    supervisor's grace.
    """
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:  # for the case that a library's thread receives the signal
        signal.signal(number, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        os._exit(0)

    threading.Thread(target=wait, name="end at once", daemon=True).start()


def die_with_parent(number: int = signal.SIGKILL) -> Callable[[], None] | None:
    """A `preexec_fn`: the kernel signals the child when its parent has ended, by whatever cause.

    None where the kernel cannot (not Linux).
    """
    if not sys.platform.startswith("linux"):
        return None
    return partial(die_with, os.getpid(), number, ctypes.CDLL(None))


def die_with(parent: int, number: int = signal.SIGKILL, libc: ctypes.CDLL | None = None) -> None:
    """The kernel signals this process when `parent` ends; where it has ended, so does this process at once.

    Does nothing where the kernel cannot (not Linux).
    """
    if not sys.platform.startswith("linux"):
        return
    (libc or ctypes.CDLL(None)).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
