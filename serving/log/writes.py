"""What clients write: to the broker, or to a spool while it is away; acknowledged only when it is there.

As long as the broker answers, an append is an append. While it is away (`serving.log.producer` says when),
records go to this worker's own spool, synced before they are acknowledged, and from there to the log as
soon as the broker is back. As long as anything waits in the spool everything that is written queues
behind it, so nothing overtakes: what was sent after the answer to something before it comes after it in
the log. That is promised for what one worker took (so: for a connection), also across the worker's
death where its successor starts on the same folder. Workers have a spool each, and promise no order
between them: a person's events may then come in any order, and the fold orders them by time; of two
changes of an item through two workers during an outage the later in the log wins.

A record whose fate the broker did not tell is spooled too, and after a death in mid-drain some are sent
again: they stand in the log twice. Their ids were fixed before, so the fold counts each once (within
its window, a day: what was under way as a longer outage began may count twice). Changes of items have no
ids; a drain repeats them from a place on, in order, and the same changes in the same order end in the
same item, since nothing that came later is in the log before all of them are acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from infra.settings import Settings
from schemas.alphabet import Millis
from schemas.identity import partition_of
from schemas.record import Record
from serving.log import refused
from serving.log.connect import DELIVERY_TIMEOUT_MS
from serving.log.errors import NotDurable, Refused
from serving.log.orphan_writes import OrphanSpool
from serving.log.producer import Log
from serving.metrics import Metrics
from serving.spool import frames
from serving.spool.frames import Entry
from serving.spool.segments import START, Directory, Place
from serving.spool.synced import Synced

log = logging.getLogger("freshet.serving")

NEAR: Final = 256 << 10
"""Bytes that wait; below it those who come wait for the last of them in memory, not behind it on disk."""
LOOK_SECONDS: Final = 1.0
"""How often a worker looks for spools that were left, and tries one anew that could not be written."""
PAUSE_SECONDS: Final = 0.1
STOP_SECONDS: Final = DELIVERY_TIMEOUT_MS / 1000


class Writes:
    """A part of the server, on its event loop."""

    name = "writes"

    def __init__(self, log: Log, settings: Settings, metrics: Metrics) -> None:
        self._root = settings.data_dir / "writes"
        self._log, self._metrics, self._partitions = log, metrics, settings.partitions
        self._spool = Synced(self._root, settings.write_spool_bytes)
        self._left: deque[OrphanSpool] = deque()
        self._queued = False
        """Something waits in a spool of ours, so all that comes waits behind it."""
        self._gate: asyncio.Future[None] | None = None
        """While the last of what waits is on its way, who comes waits for this."""
        self._place = START
        self._some, self._none = asyncio.Event(), asyncio.Event()
        self._none.set()
        self._own, self._oldest, self._began, self._drained = 0, 0, 0.0, 0
        self._told = ""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """What is written would be taken: the broker is there, or the spool has room."""
        takes = self._spool.writable and self._spool.held < self._spool.most_bytes
        return not any(task.done() for task in self._tasks) and (self._log.there.is_set() or takes)

    @property
    def waiting(self) -> int:
        """Records in spools of ours, those that were taken over included."""
        return self._own + sum(left.records for left in self._left)

    async def append(self, topic: str, records: Sequence[Record]) -> dict[int, int] | None:
        """Returns once every record is durable: partition -> highest offset written there, or None where
        the spool has them. All or none of them are acknowledged.

        Errors: `Refused`; `NotDurable` where neither broker nor spool takes them all.
        """
        while self._gate is not None:
            await asyncio.shield(self._gate)
        if not self._queued:
            try:
                return await self._log.append(topic, records)
            except Refused:
                raise
            except NotDurable:
                pass  # whatever of it is there will be there twice
        await self._keep(topic, records)
        return None

    async def start(self) -> None:
        """What its predecessor left is before all that comes."""
        self._spool.open()
        await self._take_over()
        self._tasks = [asyncio.create_task(it) for it in (self._drain(), self._look())]

    async def stop(self) -> None:
        """Sends what waits, for a while; the rest stays for the next one that looks."""
        if self._tasks and self._log.there.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._none.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._spool.settled()
        for left in self._left:
            left.directory.close()
        self._spool.close(empty=not self._queued)

    def set_gauges(self) -> None:
        """Sets the gauges."""
        now, told = time.time(), self._metrics.set
        size = sum(left.bytes for left in self._left)
        told("freshet_write_spool_records", self.waiting)
        told("freshet_write_spool_bytes", size + (self._spool.unsent if self._own else 0))
        told("freshet_write_spool_writable", self._spool.writable)
        age = now - self._oldest / 1000 if self._queued and self._oldest else 0.0
        told("freshet_write_spool_oldest_seconds", max(0.0, age))

    async def _keep(self, topic: str, records: Sequence[Record]) -> None:
        """Errors: `NotDurable`."""
        now = Millis(time.time_ns() // 1_000_000)
        synced = self._spool.put(frames.encode(topic, records, now))
        if synced is None:
            raise NotDurable
        # before the first wait: whoever comes from here on comes behind
        self._own += len(records)
        self._wake(now)
        if not await asyncio.shield(synced):
            self._own = max(0, self._own - len(records))
            raise NotDurable
        self._metrics.add("freshet_write_spooled_total", len(records))

    def _wake(self, oldest: Millis) -> None:
        if not self._queued:
            self._queued, self._oldest = True, oldest
            self._began, self._drained = time.monotonic(), 0
            self._none.clear()
        self._some.set()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._spool.open()
            self._spool.look()
            await self._take_over()

    async def _take_over(self) -> None:
        """A spool that can't be read stays where it is."""
        try:
            found = await asyncio.to_thread(Directory.orphans, self._root)
        except OSError:  # a root that can't be used is told of where it can't be written
            return
        for directory in found:
            try:
                left = await asyncio.to_thread(OrphanSpool.look, directory)
            except OSError as error:
                directory.close()
                self._tell(f"a spool that was left can't be read ({type(error).__name__})")
                continue
            if not left.records:
                directory.remove()
                continue
            self._left.append(left)
            self._wake(left.oldest)
            self._metrics.add("freshet_write_spool_taken_over_total")
            log.warning("took over a spool that was left: %d records wait in it", left.records)

    async def _drain(self) -> None:
        while True:
            await self._some.wait()
            await self._log.there.wait()
            try:
                if self._left:
                    await self._drain_left(self._left[0])
                else:
                    await self._drain_own()
            except NotDurable:
                await asyncio.sleep(PAUSE_SECONDS)
            except OSError as error:
                self._tell(f"the spool {self._root} can't be sent ({type(error).__name__})")
                await asyncio.sleep(LOOK_SECONDS)

    async def _drain_left(self, left: OrphanSpool) -> None:
        """Errors: OSError, `NotDurable`; what was sent until then is not sent again."""
        async for batch in left.batches():
            # from a time with another count of partitions, perhaps
            await self._send([self._placed(entry) for entry in batch])
            self._left[0] = left = left.less(batch)
        left.directory.remove()
        self._left.popleft()

    async def _drain_own(self) -> None:
        """Sends what is there; once it was all of it, what comes goes to the broker again. Errors: as
        above."""
        if self._spool.unsent <= NEAR:
            self._gate = asyncio.get_running_loop().create_future()
        try:
            while (goal := await self._goal()) != self._place:
                await self._send_segment(goal)
            await self._finish()
        finally:
            if self._gate is not None:
                self._gate.set_result(None)
                self._gate = None

    async def _goal(self) -> Place:
        """How far the segment can be sent in which the next record lies."""
        await self._spool.settled()
        while (following := self._spool.after(self._place)) != self._place:
            self._place = following
        return self._spool.limit(self._place)

    async def _send_segment(self, goal: Place) -> None:
        start = self._place
        data = await asyncio.to_thread(self._spool.read, start, goal)
        for batch in frames.batches(frames.decode(data)):
            await self._send(batch.entries)
            self._own = max(0, self._own - len(batch.entries))
            self._acknowledge(Place(start.segment, start.offset + batch.end))
        if self._place != goal:  # the disk gives back something else than it took
            lost = goal.offset - self._place.offset
            log.error("the spool %s is damaged: %d bytes of it are lost", self._root, lost)
            self._metrics.add("freshet_write_spool_lost_bytes_total", lost)
            self._acknowledge(goal)

    def _acknowledge(self, place: Place) -> None:
        self._place = place
        self._spool.acknowledge(place)

    async def _finish(self) -> None:
        """Nothing waits any more, unless something came meanwhile. Errors: OSError."""
        # first: what the broker has must not be sent again after what comes now
        await self._spool.remember()
        if self._left or self._place != self._spool.end:
            return
        self._queued, self._own, self._oldest, self._told = False, 0, 0, ""
        self._some.clear()
        self._none.set()
        seconds = time.monotonic() - self._began
        log.warning("the spool is empty: %d records sent, %.1f s", self._drained, seconds)

    async def _send(self, batch: list[Entry]) -> None:
        """Errors: `NotDurable`; OSError where what the broker refuses can't be kept."""
        self._oldest = batch[0].at
        try:
            await self._append(batch)
        except Refused:
            for entry in batch:
                await self._send_alone(entry)
        self._drained += len(batch)
        self._metrics.add("freshet_write_spool_drained_total", len(batch))

    async def _append(self, batch: list[Entry]) -> None:
        by_topic = groupby(sorted(batch, key=lambda it: it.topic), lambda it: it.topic)
        sends = [self._log.append(topic, [it.record for it in found]) for topic, found in by_topic]
        errors = [it for it in await asyncio.gather(*sends, return_exceptions=True) if it]
        for error in errors:
            if isinstance(error, BaseException) and not isinstance(error, Refused):
                raise error
        if any(isinstance(error, Refused) for error in errors):
            raise Refused

    async def _send_alone(self, entry: Entry) -> None:
        try:
            await self._append([entry])
        except Refused:
            path = await asyncio.to_thread(refused.keep, self._root, entry)
            self._metrics.add("freshet_write_spool_refused_total")
            log.error("the broker refuses a record that was acknowledged: it is kept in %s", path)

    def _placed(self, entry: Entry) -> Entry:
        record = entry.record
        partition = partition_of(record.key, self._partitions)
        return entry._replace(record=record._replace(partition=partition))

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            log.warning("%s", text)
