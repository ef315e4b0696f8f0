"""Reading the log back: batches of one partition in order, whether the topics or the lake hold them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

from schemas.errors import FreshetError

Headers = Sequence[tuple[str, bytes | None]]
"""The headers of one record. Another producer's record may have one name twice."""


class EncodedHeaders(Sequence[Headers]):
    """The headers of many records, encoded; each is decoded when it is read, and few are."""

    __slots__ = ("_decode", "_encoded")

    def __init__(self, encoded: Any, decode: Callable[[Any], Headers]) -> None:
        """`encoded[n]` belongs to record n; `decode` decodes one of them."""
        self._encoded, self._decode = encoded, decode

    def __len__(self) -> int:
        return len(self._encoded)

    def __iter__(self) -> Iterator[Headers]:
        return map(self._decode, self._encoded)

    @overload
    def __getitem__(self, at: int) -> Headers: ...
    @overload
    def __getitem__(self, at: slice) -> EncodedHeaders: ...
    def __getitem__(self, at: int | slice) -> Headers | EncodedHeaders:
        selected = self._encoded[at]
        if isinstance(at, slice):
            return EncodedHeaders(selected, self._decode)
        return self._decode(selected)


@dataclass
class Batch:
    """Records of one partition in log order. `first`: the offset at which the read began, not the first
    record's: a compacted log has gaps (law 9). `next`: the offset at which the next read begins.

    The records of a frame lie one after the other, as if each were a single one, under the frame's offset
    (`infra.frames.spread`): (offset, index) names a record."""

    partition: int
    first: int
    next: int
    offsets: list[int]
    timestamps: list[int]
    """Record timestamps, ms."""
    values: list[bytes | None]
    read_at: float = field(default_factory=time.monotonic)
    keys: list[bytes | None] = field(default_factory=list)
    headers: Sequence[Headers] = ()
    """The headers of each record; empty where no record has any."""
    indexes: list[int] = field(default_factory=list)
    """The index of each record in its frame, 0 for a single record; empty where all are 0."""
    refused: Mapping[int, bytes | None] = field(default_factory=dict)
    """By number in the batch, the value of each record that is a bad frame, or may not be in one. `values`
    has None for it, so that nothing decodes it."""

    def index(self, n: int) -> int:
        """The index of record number `n` in its frame."""
        return self.indexes[n] if self.indexes else 0

    def stored_values(self) -> list[bytes | None]:
        """The values of all records, those that are refused included."""
        if not self.refused:
            return self.values
        return [self.refused.get(n, value) for n, value in enumerate(self.values)]


class LogReader(Protocol):
    """A place that the log is read back from: the topics, the lake, or one after the other."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset held, and the end offset: that of the next record."""

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        """The records at offsets start <= offset < end, at most `size` a batch, unless one frame has more.

        Batches chain: the first one's `first` is `start`, each next one's the `next` before it, the
        last one's `next` is `end`. Errors: `OffTheLog` where the log does not hold them all.
        """


class OffTheLog(FreshetError):
    """Offsets are not there, or not any more; the text says which the log holds."""


class JoinedLog:
    """A `LogReader`: the lake up to its end, the topics from there on. `name_of`: the broker's name of one.

    Errors of every method, beside those of both: `OffTheLog` where the two do not belong to one log.
    """

    def __init__(
        self, lake: LogReader, topics: LogReader, name_of: Callable[[str], str] = str
    ) -> None:
        self._lake, self._topics, self._name_of = lake, topics, name_of

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        (lake_start, lake_end), (start, end) = self._both(topic, partition)
        return (min(lake_start, start) if lake_end else start), end

    def read(
        self, topic: str, partition: int, start: int, end: int, size: int = 20_000
    ) -> Iterator[Batch]:
        (lake_start, lake_end), _ = self._both(topic, partition)
        if lake_start <= start < lake_end:
            cut = min(end, lake_end)
            yield from self._lake.read(topic, partition, start, cut, size)
            start = cut
        yield from self._topics.read(topic, partition, start, end, size)

    def _both(self, topic: str, partition: int) -> tuple[tuple[int, int], tuple[int, int]]:
        # the lake first: it follows the topic, so it never seems to be ahead of the topic
        lake = self._lake.bounds(topic, partition)
        log, name = self._topics.bounds(topic, partition), self._name_of(topic)
        if lake[1] > log[1]:
            raise OffTheLog(
                f"{name} partition {partition} ends at {log[1]}, the lake holds up to {lake[1]}: the"
                " topic lost records, or is another one under the same name"
            )
        if lake[1] and lake[1] < log[0]:
            raise OffTheLog(
                f"{name} partition {partition} starts at {log[0]}, the lake ends at {lake[1]}: what"
                " lies between is gone"
            )
        return lake, log
