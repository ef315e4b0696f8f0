"""A random sample of people to check, drawn while the log is read."""

from __future__ import annotations

from heapq import heappush, heappushpop

import xxhash


class Sample:
    """The `size` people whose names hash lowest under `seed`; None takes all.

    The bar only falls, so a person who left never comes back: those in it at the end were never out of it.
    """

    def __init__(self, size: int | None, seed: int = 0) -> None:
        self._size, self._seed = size, seed
        self._held: list[tuple[int, str]] = []
        self._bar = 1 << 64

    def open_to(self, name: str) -> bool:
        """Whether the person is in the sample or may enter it: records of all others may be skipped."""
        return self._size is None or self._number(name) <= self._bar

    def take(self, name: str) -> tuple[bool, str | None]:
        """Offers a new person: whether they are taken, and the person who makes room for them."""
        if self._size is None:
            return True, None
        mine = (-self._number(name), name)
        if len(self._held) < self._size:
            heappush(self._held, mine)
            return True, None
        out = heappushpop(self._held, mine) if self._held else mine
        self._bar = -self._held[0][0] if self._held else -1
        return out != mine, out[1] if out != mine else None

    def _number(self, name: str) -> int:
        return int(xxhash.xxh3_64_intdigest(name.encode(), seed=self._seed))
