"""Chunks of a size that is good to name: with many rows, so that many days in a chunk cost little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from infra.datasets.rows import Chunk, Fault, NotReadable

MAX_ROWS: Final = 10_000
"""Rows that are decoded and named at once: some MB."""
MAX_BYTES: Final = 8 << 20


class _Gathering:
    """Rows that wait for more."""

    def __init__(self) -> None:
        self._chunk, self._size = Chunk([], [], []), 0

    def add(self, bodies: list[bytes], lines: Sequence[int], faults: list[Fault]) -> None:
        held = self._chunk
        self._chunk = Chunk(held.bodies + bodies, [*held.lines, *lines], held.faults + faults)
        self._size += sum(map(len, bodies))

    @property
    def full(self) -> bool:
        rows = len(self._chunk.bodies) + len(self._chunk.faults)
        return rows >= MAX_ROWS or self._size >= MAX_BYTES

    def take(self) -> list[Chunk]:
        """What waits, as one chunk, or as none."""
        held, self._chunk, self._size = self._chunk, Chunk([], [], []), 0
        return [held] if held.bodies or held.faults else []


def gathered(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The same rows in chunks of fewer than twice `MAX_ROWS`. Errors: `NotReadable`, after what came before.

    >>> [len(it.bodies) for it in gathered([Chunk([b"{}"] * 9, range(9), [])] * 2)]
    [18]
    """
    held = _Gathering()
    try:
        for chunk in chunks:
            held.add([], [], chunk.faults)
            for begin in range(0, max(1, len(chunk.bodies)), MAX_ROWS):
                rows = slice(begin, begin + MAX_ROWS)
                held.add(chunk.bodies[rows], chunk.lines[rows], [])
                if held.full:
                    yield from held.take()
    except NotReadable:
        yield from held.take()
        raise
    yield from held.take()
