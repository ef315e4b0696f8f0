"""The log as whoever reads it back sees it: batches of one partition in order, wherever they lie."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Headers = Sequence[tuple[str, bytes]]


@dataclass
class Batch:
    """Records of one partition in log order. `first` is where the read began, not the first
    record's offset: a compacted log has gaps (law 9)."""

    partition: int
    first: int
    next: int
    offsets: list[int]
    stamps: list[int]
    """Record timestamps, ms."""
    values: list[bytes | None]
    read_at: float = field(default_factory=time.monotonic)
    keys: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    """Of each record; empty where none has any."""


class LogReader(Protocol):
    """Where the log is read back: the topics, the lake, or one after the other."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset held, and the end: the offset that the next record gets."""

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        """The records at offsets start <= offset < end, at most `size` a batch.

        Batches chain: the first one's `first` is `start`, each next one's the `next` before it, the
        last one's `next` is `end`. Errors: `OffTheLog` where the log does not hold them all.
        """


class OffTheLog(RuntimeError):
    """Asked for offsets that are not there, or not any more; the text says which there are."""
