"""The slates of reads on their way to the log: to the spool at once, to the broker in batches, in order.

No answer waits for them, and no failure here fails an answer. A produce request costs CPU here and in the
broker whatever it holds, so slates go in batches. While the broker is away, pending slates are kept in memory
up to a bound, beyond it on disk only, and beyond the disk's bound they are lost and counted. A slate that is
sent twice does no harm: the fold ignores a slate that it has, and `slates` has keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from infra.kafka.produce.connect import DELIVERY_TIMEOUT_MS
from infra.settings import Settings
from schemas.events import Served
from schemas.headers import traced
from schemas.slates import Slate
from schemas.topics import EVENTS, SLATES
from serving.log.delivery import MAX_SLATES_PER_BATCH, Delivery, batches
from serving.log.orphan_slates import OrphanSlates
from serving.log.producer import LogProducer
from serving.metrics import Metrics
from serving.spool import segments
from serving.spool.segments import Frame, Place
from serving.spool.spool import Spool

log = logging.getLogger("freshet.serving")

LINGER_SECONDS: Final = 0.1
"""A produce request costs some 0.2 ms of CPU here and again in the broker, a record in it a few us; pending
slates are safe in the spool."""
MAX_MEMORY_BYTES: Final = 16 << 20
ORPHAN_POLL_SECONDS: Final = 3.0
"""How often a worker looks for orphaned spools, and opens its own again where it can't be written."""
STOP_TIMEOUT_SECONDS: Final = DELIVERY_TIMEOUT_MS / 1000
_SLATE_HEADERS: Final = SLATES.headers
_SERVED_HEADERS: Final = EVENTS.headers
_ENCODE: Final = msgspec.json.Encoder().encode


class PendingSlate(NamedTuple):
    """`end`: where its frame ends in the spool; None where it is in memory only. `size` in bytes."""

    frame: Frame
    size: int
    end: Place | None


class Slates:
    """A component of the server, on its event loop. `max_memory_bytes` bounds the slates in memory."""

    name = "slates"

    def __init__(
        self,
        producer: LogProducer,
        settings: Settings,
        metrics: Metrics,
        *,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        root = settings.data_dir / "spool"
        self._metrics, self._max_memory_bytes = metrics, max_memory_bytes
        self._spool = Spool(root, settings.spool_bytes)
        self._delivery = Delivery(
            producer, settings.partitions, metrics, frames=settings.frames == "on"
        )
        self._orphans = OrphanSlates(root, self._delivery, metrics)
        self._memory: deque[PendingSlate] = deque()
        self._memory_bytes = 0
        """Of the slates in memory, a batch in flight included."""
        self._disk_only_from: Place | None = None
        """Frames from this place on are on disk only; None: memory has all pending slates."""
        self._has_pending, self._batch_is_full = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, slate: Slate, served: Served | None = None, traceparent: bytes = b"") -> None:
        """Takes the slate of one answer, and its event. When this returns they survive the process."""
        frame = Frame(
            slate.slate_id.encode(),
            _ENCODE(slate),
            b"" if served is None else served.person.encode(),
            b"" if served is None else _ENCODE(served),
            traced(_SLATE_HEADERS, traceparent),
            () if served is None else traced(_SERVED_HEADERS, traceparent),
        )
        data = segments.encode(frame)
        size, end = len(data), self._spool.append(data)
        if self._disk_only_from is None and self._memory_bytes + size <= self._max_memory_bytes:
            self._memory.append(PendingSlate(frame, size, end))
            self._memory_bytes += size
            if len(self._memory) >= MAX_SLATES_PER_BATCH:
                self._batch_is_full.set()
        elif end is None:
            self._delivery.count_lost(1)
        elif self._disk_only_from is None:
            self._disk_only_from = Place(end.segment, end.offset - size)
        self._has_pending.set()

    @property
    def ready(self) -> bool:
        return not any(task.done() for task in self._tasks)

    async def start(self) -> None:
        self._spool.open()
        self._tasks = [
            asyncio.create_task(task) for task in (self._send(), self._maintain_spools())
        ]

    async def stop(self) -> None:
        """Sends pending slates for at most `STOP_TIMEOUT_SECONDS`; the rest stay in the spool for the next
        worker."""
        self._stopping = True
        self._has_pending.set()
        self._batch_is_full.set()
        if self._tasks:
            sending, maintaining = self._tasks
            maintaining.cancel()
            await asyncio.wait([sending], timeout=STOP_TIMEOUT_SECONDS)
            sending.cancel()
            await asyncio.gather(sending, maintaining, return_exceptions=True)
        self._delivery.count_lost(sum(pending.end is None for pending in self._memory))
        self._spool.close(empty=not self._memory and self._disk_only_from is None)

    async def _maintain_spools(self) -> None:
        while True:
            self._spool.open()
            self._spool.measure_others()
            self._metrics.set("freshet_spool_writable", self._spool.writable)
            try:
                await self._orphans.take_over()
            except OSError as error:  # this worker continues without the orphaned spool
                log.warning("a spool can't be taken over (%s)", type(error).__name__)
            await asyncio.sleep(ORPHAN_POLL_SECONDS)

    async def _send(self) -> None:
        while await self._batch_is_due():
            if self._memory:
                await self._send_memory()
            elif self._disk_only_from is not None:
                await self._send_disk(self._disk_only_from)

    async def _batch_is_due(self) -> bool:
        """Returns True once a batch is due. False: this worker stops, and nothing is pending."""
        while not self._memory and self._disk_only_from is None:
            if self._stopping:
                return False
            self._has_pending.clear()
            await self._has_pending.wait()
        if (
            self._disk_only_from is None
            and len(self._memory) < MAX_SLATES_PER_BATCH
            and not self._stopping
        ):
            self._batch_is_full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._batch_is_full.wait()
        return True

    async def _send_memory(self) -> None:
        batch = list(islice(self._memory, MAX_SLATES_PER_BATCH))
        await self._delivery.send([pending.frame for pending in batch])
        for pending in batch:
            self._memory.popleft()
            self._memory_bytes -= pending.size
        if end_places := [pending.end for pending in batch if pending.end is not None]:
            self._acknowledge(end_places[-1])

    async def _send_disk(self, start: Place) -> None:
        """Sends the rest of a segment; after the last one, new slates are kept in memory again."""
        segment_end, place = self._spool.segment_end(start), start
        try:
            data = await asyncio.to_thread(self._spool.read, start, segment_end)
        except OSError as error:
            log.warning("the spool can't be read (%s)", type(error).__name__)
            data = b""
        for frames, end in batches(segments.decode(data)):
            await self._delivery.send(frames)
            self._disk_only_from = place = Place(start.segment, start.offset + end)
            self._acknowledge(place)
        if place != segment_end:
            self._delivery.count_lost(1)
        next_place = self._spool.after(segment_end)
        self._disk_only_from = None if next_place == self._spool.end else next_place

    def _acknowledge(self, place: Place) -> None:
        self._spool.acknowledge(place)
        self._metrics.set("freshet_spool_bytes", self._spool.unsent)
