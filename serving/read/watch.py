"""How long each stage of a read took."""

from __future__ import annotations

import time


class Stopwatch:
    """Milliseconds per stage, in the order they came."""

    def __init__(self) -> None:
        self.begun = self._last = time.perf_counter()
        self.spent: dict[str, float] = {}

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    @property
    def took_ms(self) -> float:
        return (self._last - self.begun) * 1000
