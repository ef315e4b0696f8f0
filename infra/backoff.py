"""Exponential backoff: how long to wait before what failed is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

FIRST_DELAY_SECONDS: Final = 0.1
MAX_DELAY_SECONDS: Final = 5.0
STABLE_SECONDS: Final = 5.0
"""The length of a run after which a failure counts as the first again."""


class Pauses(Iterator[float]):
    """An endless iterator of pauses in s: `first`, each next one `factor` times as long, at most `last`.

    >>> pauses = Pauses(0.5, 3.0)
    >>> [next(pauses) for _ in range(5)]
    [0.5, 1.0, 2.0, 3.0, 3.0]
    >>> pauses.after(STABLE_SECONDS), next(pauses)
    (0.5, 1.0)
    """

    def __init__(
        self,
        first: float = FIRST_DELAY_SECONDS,
        last: float = MAX_DELAY_SECONDS,
        factor: float = 2.0,
    ) -> None:
        self._first, self._last, self._factor = first, last, factor
        self._next = first

    def __next__(self) -> float:
        pause, self._next = self._next, min(self._next * self._factor, self._last)
        return pause

    def after(self, seconds: float) -> float:
        """The next pause after a run of `seconds`: the first one again from `STABLE_SECONDS` on."""
        if seconds >= STABLE_SECONDS:
            self.reset()
        return next(self)

    def reset(self) -> None:
        """Makes the next pause the first one again."""
        self._next = self._first
