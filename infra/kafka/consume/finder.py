"""Looks for leaders in a thread: a name, a broker and its TLS may each take longer than a flow may wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Final

from infra.kafka.consume.leaders import Address, LeaderConnections, Place, find
from infra.settings import Settings

_NAME: Final = "leaders"


class Finder:
    """One search after the other, each in a thread of its own that ends with it. Used by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._search: _Search | None = None

    @property
    def is_busy(self) -> bool:
        """A search is under way, or what it found was not taken."""
        return self._search is not None

    def start(self, places: Collection[Place], held: Collection[Address]) -> None:
        """Looks for the leaders of `places`; connects to those that are none of `held`."""
        self._search = _Search(self._settings, places, held)

    def take(self) -> LeaderConnections | Exception | None:
        """What a search found, or why it failed; None while none has ended."""
        if self._search is None or not self._search.ended.is_set():
            return None
        search, self._search = self._search, None
        return search.outcome

    def wait(self, seconds: float) -> None:
        """Waits until a search has ended, at most `seconds`, and so long where none is under way."""
        if self._search is None:
            time.sleep(seconds)
        else:
            self._search.ended.wait(seconds)

    def close(self) -> None:
        """A search that is under way ends by itself, and closes what it opens."""
        if self._search is not None:
            self._search.abandon()
            self._search = None


class _Search:
    def __init__(
        self,
        settings: Settings,
        places: Collection[Place],
        held: Collection[Address],
    ) -> None:
        self.ended = threading.Event()
        self.outcome: LeaderConnections | Exception | None = None
        self._is_abandoned = False
        self._lock = threading.Lock()
        arguments = (settings, places, held)
        threading.Thread(target=self._run, args=arguments, name=_NAME, daemon=True).start()

    def _run(
        self,
        settings: Settings,
        places: Collection[Place],
        held: Collection[Address],
    ) -> None:
        outcome: LeaderConnections | Exception
        try:
            outcome = find(settings, places, held)
        except Exception as error:  # whoever polls gets it
            outcome = error
        with self._lock:
            self.outcome = outcome
            if self._is_abandoned and isinstance(outcome, LeaderConnections):
                outcome.close()
        self.ended.set()

    def abandon(self) -> None:
        with self._lock:
            self._is_abandoned = True
            if isinstance(self.outcome, LeaderConnections):
                self.outcome.close()
