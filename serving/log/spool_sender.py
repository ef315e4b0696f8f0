"""Sends what the spool holds: as many records at once as the broker and its network take in time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Final

from infra import logs
from infra.kafka.produce.connect import DELIVERY_TIMEOUT_MS
from infra.kafka.produce.errors import NotDurable, RecordRefused
from serving.log.producer import LogProducer
from serving.metrics import Metrics
from serving.spool import frames
from serving.spool.frames import Entry

log = logs.paced("freshet.serving.requests")

FAST_SECONDS: Final = DELIVERY_TIMEOUT_MS / 4000
"""Where the broker has a batch so soon, twice as many records go out at once."""
REOPEN_SECONDS: Final = 1.0
"""New records may wait for the spool as long."""


class SpoolSender:
    """`keep` puts a record that the broker refuses into a file and gives its path, or raises OSError."""

    def __init__(
        self, producer: LogProducer, keep: Callable[[Entry], Path], metrics: Metrics
    ) -> None:
        self._producer, self._keep, self._metrics = producer, keep, metrics
        self._max_records = frames.MAX_BATCH_RECORDS
        """Sent at once."""

    async def send(self, batch: list[Entry]) -> None:
        """Returns once the broker has each record, or a file has it. Errors: `NotDurable`; OSError where no
        file takes it."""
        sent, began = 0, time.monotonic()
        while sent < len(batch):
            sent += await self._send_some(batch[sent : sent + self._max_records])
        if time.monotonic() - began < FAST_SECONDS:
            self._max_records = min(frames.MAX_BATCH_RECORDS, 2 * self._max_records)

    async def _send_some(self, entries: list[Entry]) -> int:
        """Their number. A broker or a network that is too slow for so many gets fewer the next time, since
        all of them would be sent again, for ever. Errors: as `send`'s."""
        try:
            await self._append(entries)
        except RecordRefused:
            for entry in entries:
                await self._send_alone(entry)
        except NotDurable:
            self._max_records = max(1, len(entries) // 2)
            raise
        return len(entries)

    async def _append(self, entries: list[Entry]) -> None:
        """One append for each topic. Errors: `RecordRefused` where only that occurs, else the first other."""
        by_topic = groupby(sorted(entries, key=lambda it: it.topic), lambda it: it.topic)
        sends = [
            self._producer.append(topic, [it.record for it in those]) for topic, those in by_topic
        ]
        results = await asyncio.gather(*sends, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, RecordRefused):
                raise result
        if any(isinstance(result, RecordRefused) for result in results):
            raise RecordRefused

    async def _send_alone(self, entry: Entry) -> None:
        # a producer ends with a record that is refused, and the next one is there in a moment
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REOPEN_SECONDS):
                await self._producer.available.wait()
        try:
            await self._append([entry])
        except RecordRefused:
            path = await asyncio.to_thread(self._keep, entry)
            self._metrics.add("freshet_write_spool_refused_total")
            log.error("the broker refuses a record that was acknowledged: it is kept in %s", path)
