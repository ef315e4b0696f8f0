"""The spools of workers that have ended: the worker that finds one sends its slates and removes it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from serving.log.delivery import Delivery, batches
from serving.metrics import Metrics
from serving.spool import segments
from serving.spool.segments import Directory

log = logging.getLogger("freshet.serving")


class OrphanSlates:
    """The orphaned spools under `root`."""

    def __init__(self, root: Path, delivery: Delivery, metrics: Metrics) -> None:
        self._root, self._delivery, self._metrics = root, delivery, metrics

    async def take_over(self) -> None:
        """Sends and removes all orphaned spools, one after the other; siblings may take some of them."""
        while (orphan := self._next()) is not None:
            try:
                await self._send(orphan)
            except BaseException:
                orphan.close()  # another worker may take it
                raise
            self._metrics.add("freshet_spool_taken_over_total")
            if not orphan.remove():
                return

    def _next(self) -> Directory | None:
        try:
            return Directory.orphan(self._root)
        except OSError:  # `Spool` logs a root that can't be used
            return None

    async def _send(self, orphan: Directory) -> None:
        mark = orphan.mark
        for number in orphan.segments():
            if number >= mark.segment:
                offset = mark.offset if number == mark.segment else 0
                await self._send_segment(orphan, number, offset)
            orphan.drop(number)

    async def _send_segment(self, orphan: Directory, number: int, offset: int) -> None:
        try:
            data = await asyncio.to_thread(orphan.read, number)
        except OSError as error:
            log.warning("a spool can't be read (%s)", type(error).__name__)
            self._delivery.count_lost(1)
            return
        for frames, end in batches(segments.decode(data, offset)):
            await self._delivery.send(frames)
            orphan.mark = segments.Place(number, offset := end)
        if offset < len(data):  # its last write was cut short
            self._delivery.count_lost(1)
