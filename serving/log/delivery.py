"""From frames to the broker: a batch at a time, again until it is there. What is lost is counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from infra.backoff import Pauses
from schemas.headers import Headers
from schemas.identity import partition_of
from schemas.record import Record
from schemas.topics import EVENTS, SLATES
from serving.log.errors import NotDurable
from serving.metrics import Metrics
from serving.spool.segments import Frame

log = logging.getLogger("freshet.serving")

MAX_SLATES_PER_BATCH: Final = 200
"""Slates of one batch."""
TELL_SECONDS: Final = 60.0
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 2.0


class Appends(Protocol):
    """What takes records to the log (`serving.log.producer.Log`)."""

    async def append(self, topic: str, records: Sequence[Record]) -> Mapping[int, int]:
        """Errors: `NotDurable`."""


class Delivery:
    """`clock` in seconds: what is lost is told of once a minute."""

    def __init__(
        self,
        log: Appends,
        partitions: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._partitions, self._metrics = log, partitions, metrics
        self._clock, self._unsaid, self._say_at = clock, 0, float("-inf")

    async def send(self, frames: list[Frame]) -> None:
        """Returns once the broker has all of them, one append for each topic: who waits for that before
        the next batch keeps the order. Some may be there twice."""
        left = {
            SLATES.name: [self._record(it.slate_key, it.slate, it.slate_headers) for it in frames],
            EVENTS.name: [
                self._record(it.served_key, it.served, it.served_headers)
                for it in frames
                if it.served_key
            ],
        }
        pauses = Pauses(_FIRST_PAUSE, _LAST_PAUSE)
        while left:
            arrived = await asyncio.gather(*(self._append(*it) for it in left.items()))
            done = [topic for topic, there in zip(left, arrived, strict=True) if there]
            left = {topic: records for topic, records in left.items() if topic not in done}
            if left:
                await asyncio.sleep(next(pauses))
        self._metrics.add("freshet_slates_total", len(frames))

    def lost(self, n: int) -> None:
        if not n:
            return
        self._metrics.add("freshet_slates_lost_total", n)
        self._unsaid += n
        if self._clock() >= self._say_at:
            log.warning("slates did not reach the log: %d", self._unsaid)
            self._unsaid, self._say_at = 0, self._clock() + TELL_SECONDS

    async def _append(self, topic: str, records: list[Record]) -> bool:
        try:
            await self._log.append(topic, records)
        except NotDurable:
            return False
        return True

    def _record(self, key: bytes, value: bytes, headers: Headers) -> Record:
        return Record(key, partition_of(key, self._partitions), value, headers)


def batches(frames: Iterable[tuple[Frame, int]]) -> Iterator[tuple[list[Frame], int]]:
    """At most `MAX_SLATES_PER_BATCH` frames at once, and where the last of them ends."""
    rest = iter(frames)
    while batch := list(islice(rest, MAX_SLATES_PER_BATCH)):
        yield [frame for frame, _ in batch], batch[-1][1]
