"""The records of clients: to the broker, or to a spool while it is away; acknowledged once they are durable.

While the broker answers, records are appended to the log. While it is away (`serving.log.producer` says
when), they go to this worker's own spool, are synced there before they are acknowledged, and go to the log
as soon as the broker is back. While any record waits in the spool, all new records queue behind it, so no
record overtakes: a record that was sent after the answer to another comes after it in the log. This holds
for the records of one worker (so: of a connection), also after the worker's death where its successor
starts on the same folder. Each worker has a spool, and there is no order between workers: the events of a
person may then come in any order, and the fold orders them by time; of two changes of an item through two
workers during an outage the later in the log wins.

A record that the broker neither acknowledged nor refused is spooled too, and after a death in mid-drain
some records are sent again: the log has them twice. Their ids were fixed before, so the fold counts each
once (within its window of a day: a record in flight as a longer outage began may count twice). Changes of
items have no ids; a drain repeats them from a place on, in order, and the same changes in the same order
give the same item, since no later change is in the log before all of them are acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from infra.kafka.produce.connect import DELIVERY_TIMEOUT_MS
from infra.kafka.produce.errors import NotDurable, RecordRefused, TimeRefused
from infra.kafka.produce.outcome import SPOOLED, AppendOutcome, Done
from infra.settings import Settings
from schemas.alphabet import Millis
from schemas.headers import Headers
from schemas.identity import partition_of
from schemas.record import Record
from schemas.topics import BY_NAME
from serving.log import refused
from serving.log.orphan_writes import OrphanSpool
from serving.log.producer import LogProducer, settle
from serving.log.spool_sender import SpoolSender
from serving.metrics import Metrics
from serving.spool import frames
from serving.spool.frames import Entry
from serving.spool.segments import START, Directory, Place
from serving.spool.synced import Synced

log = logging.getLogger("freshet.serving")

MAX_GATED_BYTES: Final = 256 << 10
"""Bytes in the spool. Below it new records wait in memory until the spool is empty, not on disk."""
ORPHAN_POLL_SECONDS: Final = 1.0
"""How often a worker looks for orphaned spools, and opens its own again where it can't be written."""
RETRY_SECONDS: Final = 0.1
STOP_TIMEOUT_SECONDS: Final = DELIVERY_TIMEOUT_MS / 1000


class Writes:
    """A component of the server, on its event loop."""

    name = "writes"

    def __init__(self, producer: LogProducer, settings: Settings, metrics: Metrics) -> None:
        self._root = settings.data_dir / "writes"
        self._producer, self._metrics, self._partitions = producer, metrics, settings.partitions
        self._spool = Synced(self._root, settings.write_spool_bytes)
        self._sender = SpoolSender(producer, partial(refused.keep, self._root), metrics)
        self._orphans: deque[OrphanSpool] = deque()
        self._queued = False
        """A spool of this worker has records, so new records queue behind them."""
        self._gate: asyncio.Future[None] | None = None
        """New records wait for this while the last of the spool is sent."""
        self._time_refused = False
        """The broker refused the time of a record of the spool, so it refuses those behind it, too."""
        self._read_from = START
        self._has_queued, self._is_drained = asyncio.Event(), asyncio.Event()
        self._is_drained.set()
        self._own_records, self._oldest_at, self._drain_began, self._drained_records = 0, 0, 0.0, 0
        self._last_warning = ""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """A write would be taken: the broker answers, or the spool has room."""
        takes = self._spool.writable and self._spool.held < self._spool.max_bytes
        return not any(task.done() for task in self._tasks) and (
            self._producer.available.is_set() or takes
        )

    @property
    def waiting(self) -> int:
        """Records in the spools of this worker, those that it took over included."""
        return self._own_records + sum(orphan.records for orphan in self._orphans)

    def submit(self, topic: str, records: Sequence[Record], headers: Headers, done: Done) -> bool:
        """Sends records to the broker; `done` gets the outcome later. Where the broker fails, the spool takes
        them, in the order in which they were submitted. `headers`: of those without any.

        False: the spool is in use, or the broker is away; no record was taken, and `append` takes them.
        """
        if self._queued or self._gate is not None:
            return False
        take = partial(self._take_outcome, topic, records, headers, done)
        try:
            self._producer.submit(topic, records, headers, take)
        except NotDurable:
            return False
        return True

    async def append(
        self, topic: str, records: Sequence[Record], headers: Headers = ()
    ) -> Mapping[int, int] | None:
        """Returns once every record is durable: partition -> highest offset written there, or None where
        the spool has the records. All of them are acknowledged, or none. `headers`: of those without any.

        Errors: `RecordRefused`, `TimeRefused`; `NotDurable` where neither broker nor spool takes them all.
        """
        while self._gate is not None:
            await asyncio.shield(self._gate)
        if self._queued and self._time_refused:
            raise TimeRefused
        appended: asyncio.Future[AppendOutcome] = asyncio.get_running_loop().create_future()
        done = partial(settle, appended)
        if not self.submit(topic, records, headers, done):
            self._spool_records(topic, records, headers, done)
        offsets, error = await appended
        if error is not None:
            raise error
        return offsets

    async def start(self) -> None:
        """Takes over the orphaned spools first: their records precede all new ones."""
        self._spool.open()
        await self._take_over()
        self._tasks = [
            asyncio.create_task(task) for task in (self._drain(), self._maintain_spools())
        ]

    async def stop(self) -> None:
        """Sends spooled records for at most `STOP_TIMEOUT_SECONDS`; another worker takes over the rest."""
        if self._tasks and self._producer.available.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                    await self._is_drained.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._spool.settled()
        for orphan in self._orphans:
            orphan.directory.close()
        self._spool.close(empty=not self._queued)

    def set_gauges(self) -> None:
        """Sets the gauges of the spools."""
        now, set_gauge = time.time(), self._metrics.set
        size = sum(orphan.bytes for orphan in self._orphans)
        set_gauge("freshet_write_spool_records", self.waiting)
        set_gauge(
            "freshet_write_spool_bytes", size + (self._spool.unsent if self._own_records else 0)
        )
        set_gauge("freshet_write_spool_writable", self._spool.writable)
        age = now - self._oldest_at / 1000 if self._queued and self._oldest_at else 0.0
        set_gauge("freshet_write_spool_oldest_seconds", max(0.0, age))

    def _take_outcome(
        self,
        topic: str,
        records: Sequence[Record],
        headers: Headers,
        done: Done,
        outcome: AppendOutcome,
    ) -> None:
        error = outcome.error
        if error is None or isinstance(error, RecordRefused | TimeRefused):
            done(outcome)
        else:  # those that the log has already will be in it twice
            self._spool_records(topic, records, headers, done)

    def _spool_records(
        self, topic: str, records: Sequence[Record], headers: Headers, done: Done
    ) -> None:
        """Puts records into the own spool; `done` gets the outcome once they are synced, or not."""
        now = Millis(time.time_ns() // 1_000_000)
        with_headers = [
            each if each.headers else each._replace(headers=headers) for each in records
        ]
        synced = self._spool.put(frames.encode(topic, with_headers, now))
        if synced is None:
            done(AppendOutcome(None, NotDurable()))
            return
        # at once: later records queue behind these
        self._own_records += len(records)
        self._wake(now)
        synced.add_done_callback(partial(self._take_synced, len(records), done))

    def _take_synced(self, records: int, done: Done, synced: asyncio.Future[bool]) -> None:
        if synced.result():
            self._metrics.add("freshet_write_spooled_total", records)
            done(SPOOLED)
        else:
            self._own_records = max(0, self._own_records - records)
            done(AppendOutcome(None, NotDurable()))

    def _wake(self, oldest: Millis) -> None:
        if not self._queued:
            self._queued, self._oldest_at = True, oldest
            self._drain_began, self._drained_records = time.monotonic(), 0
            self._is_drained.clear()
        self._has_queued.set()

    async def _maintain_spools(self) -> None:
        while True:
            await asyncio.sleep(ORPHAN_POLL_SECONDS)
            self._spool.open()
            self._spool.measure_others()
            await self._take_over()

    async def _take_over(self) -> None:
        """Takes over orphaned spools. One that can't be read stays on disk."""
        try:
            directories = await asyncio.to_thread(Directory.orphans, self._root)
        except OSError:  # `Spool` logs a root that can't be used
            return
        for directory in directories:
            try:
                orphan = await asyncio.to_thread(OrphanSpool.measure, directory)
            except OSError as error:
                directory.close()
                self._warn_once(
                    f"the spool of an ended worker can't be read ({type(error).__name__})"
                )
                continue
            if not orphan.records:
                directory.remove()
                continue
            self._orphans.append(orphan)
            self._wake(orphan.oldest)
            self._metrics.add("freshet_write_spool_taken_over_total")
            log.warning("took over the spool of an ended worker: %d records", orphan.records)

    async def _drain(self) -> None:
        while True:
            await self._has_queued.wait()
            await self._producer.available.wait()
            try:
                if self._orphans:
                    await self._drain_orphan(self._orphans[0])
                else:
                    await self._drain_own()
            except NotDurable as error:
                self._time_refused = isinstance(error, TimeRefused)
                await asyncio.sleep(RETRY_SECONDS)
            except OSError as error:
                self._warn_once(f"the spool {self._root} can't be sent ({type(error).__name__})")
                await asyncio.sleep(ORPHAN_POLL_SECONDS)

    async def _drain_orphan(self, orphan: OrphanSpool) -> None:
        """Sends all of it. Errors: OSError, `NotDurable`; batches sent until then are not sent again."""
        async for batch in orphan.batches():
            # the count of partitions may have been another one
            await self._send([self._repartitioned(entry) for entry in batch])
            self._orphans[0] = orphan = orphan.without(batch)
        orphan.directory.remove()
        self._orphans.popleft()

    async def _drain_own(self) -> None:
        """Sends the own spool; once it is empty, new records go to the broker again. Errors: OSError,
        `NotDurable`."""
        if self._spool.unsent <= MAX_GATED_BYTES:
            self._gate = asyncio.get_running_loop().create_future()
        try:
            while (end := await self._sendable_end()) != self._read_from:
                await self._send_segment(end)
            await self._finish()
        finally:
            if self._gate is not None:
                self._gate.set_result(None)
                self._gate = None

    async def _sendable_end(self) -> Place:
        """The end of the synced frames in the segment of the next record."""
        await self._spool.settled()
        while (next_place := self._spool.after(self._read_from)) != self._read_from:
            self._read_from = next_place
        return self._spool.synced_end(self._read_from)

    async def _send_segment(self, end: Place) -> None:
        start = self._read_from
        data = await asyncio.to_thread(self._spool.read, start, end)
        for batch in frames.batches(frames.decode(data)):
            await self._send(batch.entries)
            self._own_records = max(0, self._own_records - len(batch.entries))
            self._acknowledge(Place(start.segment, start.offset + batch.end))
        if self._read_from != end:  # the disk returned other bytes than were written
            lost = end.offset - self._read_from.offset
            log.error("the spool %s is damaged: %d bytes of it are lost", self._root, lost)
            self._metrics.add("freshet_write_spool_lost_bytes_total", lost)
            self._acknowledge(end)

    def _acknowledge(self, place: Place) -> None:
        self._read_from = place
        self._spool.acknowledge(place)

    async def _finish(self) -> None:
        """Marks the spool empty, unless records came meanwhile. Errors: OSError."""
        # first: records that the broker has must not be sent again after newer ones
        await self._spool.sync_directories()
        if self._orphans or self._read_from != self._spool.end:
            return
        self._queued, self._own_records, self._oldest_at, self._last_warning = False, 0, 0, ""
        self._has_queued.clear()
        self._is_drained.set()
        seconds = time.monotonic() - self._drain_began
        log.warning("the spool is empty: %d records sent, %.1f s", self._drained_records, seconds)

    async def _send(self, batch: list[Entry]) -> None:
        """Sends a batch. Errors: as `SpoolSender.send`'s."""
        self._oldest_at = batch[0].at
        await self._sender.send(batch)
        self._time_refused = False
        self._drained_records += len(batch)
        self._metrics.add("freshet_write_spool_drained_total", len(batch))

    def _repartitioned(self, entry: Entry) -> Entry:
        record = entry.record
        count = BY_NAME[entry.topic].partitions or self._partitions
        partition = partition_of(record.key, count)
        return entry._replace(record=record._replace(partition=partition))

    def _warn_once(self, text: str) -> None:
        if text != self._last_warning:
            self._last_warning = text
            log.warning("%s", text)
