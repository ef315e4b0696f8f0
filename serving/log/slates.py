"""What reads leave for the log: to the spool at once, to the broker in batches, in order.

Nobody waits for it and nothing of it fails an answer. A produce request costs the process about as
much as a whole answer; one for each slate would halve what it can serve. While the broker is away
what waits is kept in memory up to a bound, beyond it on disk only, beyond the disk's it is lost and
counted. Whatever is sent twice does no harm: the fold knows a slate served before, `slates` has keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from infra.settings import Settings
from schemas.events import Served
from schemas.headers import traced
from schemas.slates import Slate
from schemas.topics import EVENTS, SLATES
from serving.log.connect import DELIVERY_TIMEOUT_MS
from serving.log.delivery import MAX_SLATES_PER_BATCH, Delivery, batches
from serving.log.orphan_slates import OrphanSlates
from serving.log.producer import Log
from serving.metrics import Metrics
from serving.spool import segments
from serving.spool.segments import Frame, Place
from serving.spool.spool import Spool

log = logging.getLogger("freshet.serving")

EVERY_SECONDS: Final = 0.1
"""A produce request costs about 1 ms of CPU, a record in it 15 us; what waits is safe in the spool."""
MOST_MEMORY: Final = 16 << 20
LOOK_SECONDS: Final = 3.0
"""How often a worker looks for spools that were left, and tries one anew that could not be written."""
STOP_SECONDS: Final = DELIVERY_TIMEOUT_MS / 1000
_ENCODE: Final = msgspec.json.Encoder().encode


class Waiting(NamedTuple):
    """`end`: where its frame ends in the spool; None: it is in memory only."""

    frame: Frame
    size: int
    end: Place | None


class Slates:
    """A part of the server, on its event loop. `most_memory` bounds the bytes that wait in memory."""

    name = "slates"

    def __init__(
        self, log: Log, settings: Settings, metrics: Metrics, *, most_memory: int = MOST_MEMORY
    ) -> None:
        root = settings.data_dir / "spool"
        self._metrics, self._most_memory = metrics, most_memory
        self._spool = Spool(root, settings.spool_bytes)
        self._delivery = Delivery(log, settings.partitions, metrics)
        self._orphans = OrphanSlates(root, self._delivery, metrics)
        self._memory: deque[Waiting] = deque()
        self._bytes = 0
        """Of what is in memory, a batch under way included."""
        self._behind: Place | None = None
        """From here on frames are on disk only; None: memory holds all that waits."""
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, slate: Slate, served: Served | None = None, traceparent: bytes = b"") -> None:
        """Takes what one answer leaves; when this returns it survives the process."""
        headers = traced(SLATES.headers, traceparent)
        frame = Frame(slate.slate_id.encode(), _ENCODE(slate), slate_headers=headers)
        if served is not None:
            frame = frame._replace(
                served_key=served.person.encode(),
                served=_ENCODE(served),
                served_headers=traced(EVENTS.headers, traceparent),
            )
        data = segments.encode(frame)
        size, end = len(data), self._spool.append(data)
        if self._behind is None and self._bytes + size <= self._most_memory:
            self._memory.append(Waiting(frame, size, end))
            self._bytes += size
            if len(self._memory) >= MAX_SLATES_PER_BATCH:
                self._many.set()
        elif end is None:
            self._delivery.lost(1)
        elif self._behind is None:
            self._behind = Place(end.segment, end.offset - size)
        self._some.set()

    @property
    def ready(self) -> bool:
        return not any(task.done() for task in self._tasks)

    async def start(self) -> None:
        self._spool.open()
        self._tasks = [asyncio.create_task(it) for it in (self._send(), self._look())]

    async def stop(self) -> None:
        """Sends what is left, for a while; what then still waits stays in the spool for the next one."""
        self._stopping = True
        self._some.set()
        self._many.set()
        if self._tasks:
            sending, looking = self._tasks
            looking.cancel()
            await asyncio.wait([sending], timeout=STOP_SECONDS)
            sending.cancel()
            await asyncio.gather(sending, looking, return_exceptions=True)
        self._delivery.lost(sum(waiting.end is None for waiting in self._memory))
        self._spool.close(empty=not self._memory and self._behind is None)

    async def _look(self) -> None:
        while True:
            self._spool.open()
            self._spool.look()
            self._metrics.set("freshet_spool_writable", self._spool.writable)
            try:
                await self._orphans.take_over()
            except OSError as error:  # a disk of somebody who is gone is no reason to stop
                log.warning("a spool can't be taken over (%s)", type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def _send(self) -> None:
        while await self._waits():
            if self._memory:
                await self._send_memory()
            elif self._behind is not None:
                await self._send_disk(self._behind)

    async def _waits(self) -> bool:
        """Returns once there is something to send, and it is time to. False: never again."""
        while not self._memory and self._behind is None:
            if self._stopping:
                return False
            self._some.clear()
            await self._some.wait()
        if self._behind is None and len(self._memory) < MAX_SLATES_PER_BATCH and not self._stopping:
            self._many.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._many.wait()
        return True

    async def _send_memory(self) -> None:
        batch = list(islice(self._memory, MAX_SLATES_PER_BATCH))
        await self._delivery.send([waiting.frame for waiting in batch])
        for waiting in batch:
            self._memory.popleft()
            self._bytes -= waiting.size
        if ends := [waiting.end for waiting in batch if waiting.end is not None]:
            self._acknowledge(ends[-1])

    async def _send_disk(self, start: Place) -> None:
        """Sends the rest of a segment; where that was all there is, memory takes over again."""
        goal, place = self._spool.goal(start), start
        try:
            data = await asyncio.to_thread(self._spool.read, start, goal)
        except OSError as error:
            log.warning("the spool can't be read (%s)", type(error).__name__)
            data = b""
        for frames, end in batches(segments.decode(data)):
            await self._delivery.send(frames)
            self._behind = place = Place(start.segment, start.offset + end)
            self._acknowledge(place)
        if place != goal:
            self._delivery.lost(1)
        following = self._spool.after(goal)
        self._behind = None if following == self._spool.end else following

    def _acknowledge(self, place: Place) -> None:
        self._spool.acknowledge(place)
        self._metrics.set("freshet_spool_bytes", self._spool.unsent)
