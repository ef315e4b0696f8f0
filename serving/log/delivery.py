"""Sends slates to the broker: a batch at a time, repeated until it is acknowledged. Losses are counted.

What a batch has for one partition goes as one record of the log, a frame (`infra.frames`), unless that is
switched off. A batch that is sent again may come in other frames: its records are the same, in their order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

from infra.backoff import Pauses
from infra.frames import framed
from infra.kafka.produce.errors import NotDurable
from schemas.headers import Headers
from schemas.record import Record
from schemas.topics import EVENTS, SLATES
from serving.log.key_partitions import partitions_of
from serving.metrics import Metrics
from serving.spool.segments import Frame

log = logging.getLogger("freshet.serving")

MAX_SLATES_PER_BATCH: Final = 200
"""Slates of one append."""
LOSS_LOG_SECONDS: Final = 60.0
_MIN_PAUSE_SECONDS: Final = 0.05
_MAX_PAUSE_SECONDS: Final = 2.0


class Appender(Protocol):
    """Appends records to the log: `serving.log.producer.LogProducer`."""

    async def append(self, topic: str, records: Sequence[Record]) -> Mapping[int, int]:
        """Partition -> highest offset written there. Errors: `NotDurable`."""

    def max_value_bytes(self, topic: str) -> int:
        """The longest value that `topic` takes now, as far as is known."""


class Delivery:
    """`clock` in seconds: losses are logged once in `LOSS_LOG_SECONDS`. `frames`: whether to make them."""

    def __init__(
        self,
        appender: Appender,
        partitions: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        frames: bool = True,
    ) -> None:
        self._appender, self._partitions, self._metrics = appender, partitions, metrics
        self._frames = frames
        self._clock, self._unlogged, self._next_log_at = clock, 0, float("-inf")

    async def send(self, frames: list[Frame]) -> None:
        """Returns once the broker has all frames, one append for each topic. A caller that waits before it
        sends the next batch keeps the order. Some records may be in the log twice."""
        served = [frame for frame in frames if frame.served_key]
        remaining = {
            SLATES.name: self._records(
                [(frame.slate_key, frame.slate, frame.slate_headers) for frame in frames]
            ),
            EVENTS.name: self._records(
                [(frame.served_key, frame.served, frame.served_headers) for frame in served]
            ),
        }
        pauses = Pauses(_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while remaining:
            appended = await asyncio.gather(
                *(self._append(topic, records) for topic, records in remaining.items())
            )
            done = [topic for topic, ok in zip(remaining, appended, strict=True) if ok]
            remaining = {
                topic: records for topic, records in remaining.items() if topic not in done
            }
            if remaining:
                await asyncio.sleep(next(pauses))
        self._metrics.add("freshet_slates_total", len(frames))

    def count_lost(self, n: int) -> None:
        """Counts `n` slates that will not reach the log."""
        if not n:
            return
        self._metrics.add("freshet_slates_lost_total", n)
        self._unlogged += n
        if self._clock() >= self._next_log_at:
            log.warning("slates did not reach the log: %d", self._unlogged)
            self._unlogged, self._next_log_at = 0, self._clock() + LOSS_LOG_SECONDS

    async def _append(self, topic: str, records: list[Record]) -> bool:
        if self._frames:  # at each try: a broker that refused the length may have said so
            records = framed(topic, records, self._appender.max_value_bytes(topic))
        try:
            await self._appender.append(topic, records)
        except NotDurable:
            return False
        return True

    def _records(self, unplaced: Sequence[tuple[bytes, bytes, Headers]]) -> list[Record]:
        """The records of keys, values and headers."""
        places = partitions_of([key for key, _, _ in unplaced], self._partitions)
        return [
            Record(key, place, value, headers)
            for (key, value, headers), place in zip(unplaced, places, strict=True)
        ]


def batches(frames: Iterable[tuple[Frame, int]]) -> Iterator[tuple[list[Frame], int]]:
    """Batches of at most `MAX_SLATES_PER_BATCH` frames, each with the offset at which its last frame ends."""
    rest = iter(frames)
    while batch := list(islice(rest, MAX_SLATES_PER_BATCH)):
        yield [frame for frame, _ in batch], batch[-1][1]
