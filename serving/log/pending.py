"""Records that a producer has and did not report yet, and their outcome for the `append` that waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from schemas.record import Record
from serving.log.errors import NotDurable, Refused, TimeRefused

RECORD_ERRORS: Final[dict[type[BaseException], type[NotDurable]]] = {
    InvalidRecordError: Refused,
    InvalidTimestampError: TimeRefused,
    MessageSizeTooLargeError: Refused,
    RecordListTooLargeError: Refused,
}
"""Errors of a record, not of the broker -> what an append raises."""

Report = Callable[["PendingRecords", Any], None]
"""Takes the metadata of the last of some records, or the error of one."""


class Waiter:
    """The pending result of one `append`. Used on the event loop only."""

    __slots__ = ("broken", "done", "offsets", "refused", "remaining", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.remaining = 0
        """Partitions whose records are not reported."""
        self.since = time.monotonic()
        self.done: asyncio.Future[bool] = loop.create_future()
        """True: the broker has all records."""
        self.refused: type[NotDurable] | None = None
        self.broken = False
        self.offsets: dict[int, int] = {}

    def add_result(self, result: Any) -> None:
        """Takes the result of a partition. Where it is `broken`, the owner ends all waiters in order."""
        self.remaining -= 1
        self._take(result)
        if not self.remaining and not self.broken:
            self.finish(self.refused is None)

    def _take(self, result: Any) -> None:
        if type(result) in RECORD_ERRORS:
            self.refused = RECORD_ERRORS[type(result)]
        elif isinstance(result, BaseException):
            self.broken = True
        else:
            self.offsets[result.partition] = result.offset

    def finish(self, result: bool) -> None:
        if not self.done.done():
            self.done.set_result(result)


class PendingRecords:
    """The records of one `append` in one partition. The broker gets them in order, so it has all of them once
    it has the last; an error may be that of any.

    `count`: how many they are, 0 once they are reported; used on the event loop only. The two callbacks run
    in any thread.
    """

    __slots__ = ("_report", "count", "records", "waiter")

    def __init__(self, waiter: Waiter, report: Report) -> None:
        self.waiter, self._report = waiter, report
        self.records: list[Record] = []
        self.count = 0

    def on_success(self, metadata: Any) -> None:
        self._report(self, metadata)

    def on_error(self, error: BaseException) -> None:
        self._report(self, error)


def by_partition(
    records: Sequence[Record], waiter: Waiter, report: Report
) -> dict[int, PendingRecords]:
    """Partition -> those of `records` that are for it, in their order, all awaited by `waiter`."""
    parts: dict[int, PendingRecords] = {}
    for record in records:
        part = parts.get(record.partition)
        if part is None:
            part = parts[record.partition] = PendingRecords(waiter, report)
        part.records.append(record)
    for part in parts.values():
        part.count = len(part.records)
    waiter.remaining = len(parts)
    return parts
