"""Slates on their way to their topic: nobody waits for them, so they travel together.

A produce request costs the process about as much as a whole answer; one for each slate would halve
what it can serve.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from schemas.identity import partition_of
from schemas.slate import Slate
from schemas.topics import SLATES
from serving.ingest import Record
from serving.log import Log, NotDurable

EVERY_SECONDS: Final = 0.05
AT_MOST: Final = 200


class Slates:
    """Collects slates for `EVERY_SECONDS`, or until there are `AT_MOST`."""

    name = "slates"
    ready = True

    def __init__(self, log: Log, partitions: int) -> None:
        self._log, self._partitions = log, partitions
        self._waiting: list[Slate] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, slate: Slate) -> None:
        """Takes a slate; it is sent later, on this event loop."""
        self._waiting.append(slate)
        if len(self._waiting) >= AT_MOST:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._send)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Sends what is left, and waits for all of it."""
        self._send()
        await asyncio.gather(*self._tasks)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        slates, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._append(slates))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(self, slates: list[Slate]) -> None:
        records = [self._record(slate) for slate in slates]
        try:
            await self._log.append(SLATES.name, records)
        except NotDurable:
            self._log.lost += len(records)

    def _record(self, slate: Slate) -> Record:
        key = slate.slate_id.encode()
        return Record(key, partition_of(key, self._partitions), msgspec.json.encode(slate))
