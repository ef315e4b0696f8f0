"""A process's sign of life: a file that is touched while it turns, which its supervisor looks at.

A thread touches it once a second, so a beat costs the loop that gives it an assignment. A process that is
stopped runs no thread. One whose loop spins has the thread hold still: between two beats it took more CPU
than it may; so a busy machine kills nobody, nor does waiting for a service, which takes none. An event loop
waits for nothing: it has to turn.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

BEAT_VARIABLE: Final = "FRESHET_BEAT"
"""Variable by which a supervisor asks for it: ``seconds:file``."""
BEAT_SECONDS: Final = 1.0


class _Loop:
    """The main loop of this process. `watched`: it is to beat; `waits`: it may do nothing for long."""

    turned = True
    watched = False
    waits = True


_loop: Final = _Loop()


def beat() -> None:
    """The loop has turned once more."""
    _loop.turned = True


@contextmanager
def watched_loop(*, waits: bool = True) -> Iterator[None]:
    """While this lasts the main thread is in a loop that beats. Until then, and after it, it is at some
    work of whatever length, and only stopping the process as a whole is a hang."""
    beat()
    _loop.watched, _loop.waits = True, waits
    try:
        yield
    finally:
        _loop.watched = False


async def keep_beating() -> None:
    """A task for an event loop, for as long as it is to turn."""
    with watched_loop(waits=False):
        while True:
            beat()
            await asyncio.sleep(BEAT_SECONDS / 2)


def start() -> None:
    """Begins to give signs of life where a supervisor asks for them. Call it in the main thread."""
    seconds, colon, file = os.environ.pop(BEAT_VARIABLE, "").partition(":")
    if colon:
        watch = _Watch(Path(file), float(seconds), _cpu_clock())
        threading.Thread(target=watch.run, name="heartbeat", daemon=True).start()


class _Watch:
    """`most`: seconds of CPU that the main thread may take between two beats; `cpu`: those it took."""

    def __init__(self, file: Path, most: float, cpu: Callable[[], float]) -> None:
        self._file, self._most, self._cpu = file, most, cpu
        self._turned_at = cpu()

    def run(self) -> None:
        while True:
            if self._lives():
                with suppress(
                    OSError
                ):  # a full disk is no hang: touching needs no room, making it does
                    self._file.touch()
            time.sleep(BEAT_SECONDS)

    def _lives(self) -> bool:
        now = self._cpu()
        if _loop.turned or not _loop.watched:
            _loop.turned, self._turned_at = False, now
            return True
        return _loop.waits and now - self._turned_at < self._most


def _cpu_clock() -> Callable[[], float]:
    """Seconds of CPU that this thread has taken, for any thread to ask."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0  # where it cannot be asked, nobody spins
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
