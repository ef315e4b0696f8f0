"""Signs of life of a process: a file that is touched while its main loop iterates; its supervisor reads when.

A thread touches the file once a second, so a beat costs the loop one assignment. A stopped process runs no
thread. Where the loop spins, the thread stops touching: between two beats the loop took more CPU than it may.
So neither a busy machine nor waiting for a service, which takes no CPU, ends a process. An event loop never
waits: it has to iterate.
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
"""Variable by which a supervisor asks for signs of life: ``seconds:file``."""
BEAT_SECONDS: Final = 1.0


class _Loop:
    """The main loop of this process. `iterated`: since the last look; `watched`: it has to beat; `waits`: it
    may be idle for long."""

    iterated = True
    watched = False
    waits = True


_loop: Final = _Loop()


def beat() -> None:
    """Records that the loop has iterated once more."""
    _loop.iterated = True


@contextmanager
def watched_loop(*, waits: bool = True) -> Iterator[None]:
    """Inside this the main thread is in a loop that beats. Outside it the main thread may work for any time,
    and only a process that is stopped as a whole hangs."""
    beat()
    _loop.watched, _loop.waits = True, waits
    try:
        yield
    finally:
        _loop.watched = False


async def keep_beating() -> None:
    """Beats for ever: a task of an event loop, for as long as the loop has to iterate."""
    with watched_loop(waits=False):
        while True:
            beat()
            await asyncio.sleep(BEAT_SECONDS / 2)


def start() -> None:
    """Starts the thread where a supervisor asks for signs of life. Must be called in the main thread."""
    seconds, colon, file = os.environ.pop(BEAT_VARIABLE, "").partition(":")
    if colon:
        watch = _Watch(Path(file), float(seconds), _cpu_clock())
        threading.Thread(target=watch.run, name="heartbeat", daemon=True).start()


class _Watch:
    """The thread. `max_cpu`: seconds of CPU that the main thread may take between two beats; `cpu`: the
    seconds it has taken."""

    def __init__(self, file: Path, max_cpu: float, cpu: Callable[[], float]) -> None:
        self._file, self._max_cpu, self._cpu = file, max_cpu, cpu
        self._cpu_at_beat = cpu()

    def run(self) -> None:
        while True:
            if self._lives():
                # a full disk is no hang: touching the file needs no room, making it does
                with suppress(OSError):
                    self._file.touch()
            time.sleep(BEAT_SECONDS)

    def _lives(self) -> bool:
        now = self._cpu()
        if _loop.iterated or not _loop.watched:
            _loop.iterated, self._cpu_at_beat = False, now
            return True
        return _loop.waits and now - self._cpu_at_beat < self._max_cpu


def _cpu_clock() -> Callable[[], float]:
    """A function that any thread may call: seconds of CPU that the present thread has taken."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0  # where the platform has no such clock, no loop counts as spinning
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
