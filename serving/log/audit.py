"""What administration, and reads of other people's data, put into the topic `audit` (`schemas.access.audit`).

The records go the way of clients' writes: to the broker, or to the spool while the broker is away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from infra.kafka.produce.errors import NotDurable
from schemas.access.audit import AuditRecord, encode
from schemas.headers import Headers
from schemas.record import Record
from schemas.topics import AUDIT
from serving.metrics import Metrics

log = logging.getLogger("freshet.serving")
Append = Callable[[str, Sequence[Record], Headers], Awaitable[Any]]
"""Topic, records, headers: `serving.log.writes.Writes.append`. Errors: `NotDurable`."""
LOSS_LOG_SECONDS: Final = 60.0
MAX_UNKEPT: Final = 10_000
"""Records that nobody waits for; one more is lost, and counted."""


class AuditTrail:
    """A component of the server, on its event loop. It stops before `writes` does. `clock` in s: losses are
    logged once in `LOSS_LOG_SECONDS`."""

    name = "audit"

    def __init__(
        self, append: Append, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._append, self._metrics, self._clock = append, metrics, clock
        self._unlogged, self._next_log_at = 0, float("-inf")
        self._unkept: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        return True

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        """Waits for the records that nobody waits for."""
        await asyncio.gather(*self._unkept)

    async def keep(self, record: AuditRecord) -> None:
        """Returns once the broker has the record, or the spool has synced it. Errors: `NotDurable`."""
        self._count(record)
        await self._send(record)

    async def keep_or_count(self, record: AuditRecord) -> None:
        """`keep`; a record that nothing takes is counted and logged. Errors: none."""
        self._count(record)
        await self._send_or_count(record)

    def note(self, record: AuditRecord) -> None:
        """Takes a record that nobody waits for. One beyond `MAX_UNKEPT` is lost."""
        self._count(record)
        if len(self._unkept) >= MAX_UNKEPT:
            self._count_lost(record)
            return
        task = asyncio.create_task(self._send_or_count(record))
        self._unkept.add(task)
        task.add_done_callback(self._unkept.discard)

    async def _send(self, record: AuditRecord) -> None:
        # one partition, so that an act's records are in their order
        single = Record(record.audit_id.encode(), 0, encode(record))
        await self._append(AUDIT.name, [single], AUDIT.headers)

    async def _send_or_count(self, record: AuditRecord) -> None:
        try:
            await self._send(record)
        except NotDurable:
            self._count_lost(record)

    def _count(self, record: AuditRecord) -> None:
        self._metrics.add("freshet_audit_records_total", kind=record.kind)

    def _count_lost(self, record: AuditRecord) -> None:
        self._metrics.add("freshet_audit_lost_total", kind=record.kind)
        self._unlogged += 1
        if self._clock() >= self._next_log_at:
            log.error("records of audit that neither broker nor spool took: %d", self._unlogged)
            self._unlogged, self._next_log_at = 0, self._clock() + LOSS_LOG_SECONDS
