"""Whether a flow's clock agrees with Redis's, asked in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from infra.settings import Settings
from infra.store import clock, redis_client

log = logging.getLogger(__name__)


class ClockWatch:
    """`now`: this process's clock, Unix time in s."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        self._settings, self._now = settings, now
        self.skew: float | None = None
        """By how many s this clock is ahead of Redis's; None where Redis did not answer."""
        self._was_off = False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Asks every `clock.POLL_SECONDS` while the context is entered."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), name="clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(clock.POLL_SECONDS):
            self.check()

    def check(self) -> None:
        """Asks once, and logs a change between right and wrong."""
        self.skew = self._ask()
        if self.skew is None or clock.is_off(self.skew) == self._was_off:
            return
        self._was_off = not self._was_off
        log.warning(
            "%s", clock.sentence(self.skew) if self._was_off else "the clock is right again"
        )

    def _ask(self) -> float | None:
        try:
            with redis_client.connect(self._settings) as client:
                before = self._now()
                return clock.skew(client.time(), before, self._now())
        except Exception:  # any error counts as no answer: the flow itself reports it
            return None
