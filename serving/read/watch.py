"""How long each stage of a read took."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stopwatch:
    """Milliseconds per stage, in the order of the stages. `timer` gives seconds."""

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self._timer = timer
        self.started = self._last = timer()
        self.stage_ms: dict[str, float] = {}

    def __call__(self, stage: str, ms: float | None = None) -> None:
        """Ends a stage: the time since the last one ended is its, or so many ms of it, measured elsewhere. A
        timer that was given measures all of them."""
        measured = ms is not None and self._timer is time.perf_counter
        now = self._last + ms / 1000 if measured and ms is not None else self._timer()
        self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    @property
    def took_ms(self) -> float:
        """From the start to the end of the last stage."""
        return (self._last - self.started) * 1000
