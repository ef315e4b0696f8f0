"""What the log of the process says of outages of the broker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from infra.kafka.produce.opener import MIN_LIFE_SECONDS

log = logging.getLogger("freshet.serving")

REPEAT_SECONDS: Final = 60.0
"""A broker that refuses record after record is back and away again several times a second."""


class Outages:
    """Logs each outage as it begins and as it ends; of those that follow another within `MIN_LIFE_SECONDS`,
    one of each cause in `REPEAT_SECONDS`. `clock` in s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at, self._ended_at = clock(), float("-inf")
        self._is_logged = True
        self._unlogged = 0
        self._next_log_at: dict[str, float] = {}
        """By cause."""

    def begin(self, why: str) -> None:
        """The broker can't be used: the cause."""
        now = self._began_at = self._clock()
        repeats = now - self._ended_at < MIN_LIFE_SECONDS
        self._is_logged = not (repeats and now < self._next_log_at.get(why, now))
        if not self._is_logged:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more times since)" if self._unlogged else ""
        log.warning("%s: writes wait in the spool%s", why, more)
        self._unlogged, self._next_log_at[why] = 0, now + REPEAT_SECONDS

    def end(self) -> None:
        """The broker takes records again."""
        self._ended_at = self._clock()
        if self._is_logged:
            log.warning("the broker is back after %.1f s", self._ended_at - self._began_at)
