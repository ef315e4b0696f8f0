"""One partition's log on its way through the slow definitions, up to whatever offset is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from infra.log import Batch, LogReader
from models.reference import Partition
from schemas import event as events
from schemas.topics import EVENTS

_MERGE: Final = events.encode(
    events.Merge(person="0" * 32, source=0, offset=0, n=0, received_at=0)  # type: ignore[arg-type]
)[:15]
"""How the records begin that an outbox sent: they are numbered over everybody's."""
_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)


class Walk:
    """`told` has been told of every record before `next`, or of those of people who may be checked.

    Errors of `to`: `infra.log.OffTheLog`, the log's own.
    """

    def __init__(self, log: LogReader, partition: int, told: Partition) -> None:
        self._log, self.partition, self.told = log, partition, told
        self.start, self.end = log.bounds(EVENTS.name, partition)
        self.next = self.start
        self.events = 0
        self.newest = 0
        """Highest record time so far, ms."""

    def look(self) -> int:
        """Where the log ends now."""
        _, self.end = self._log.bounds(EVENTS.name, self.partition)
        return self.end

    def to(self, end: int) -> None:
        """On to `end`; never back."""
        if end <= self.next:
            return
        for batch in self._log.read(EVENTS.name, self.partition, self.next, end):
            self.events += len(batch.offsets)
            self.newest = max([self.newest, *batch.stamps])
            if self.told.sums is None:
                self._some(batch)
            else:
                self._all(batch)
        self.next = end

    def _all(self, batch: Batch) -> None:
        take = self.told.take
        for offset, stamp, event in zip(
            batch.offsets, batch.stamps, _decoded(batch.values), strict=True
        ):
            if event is not None:
                take(offset, stamp, event)

    def _some(self, batch: Batch) -> None:
        """The key says whose a record is: nobody else's is decoded."""
        told, open_to = self.told, self.told.sample.open_to
        names = batch.keys or [None] * len(batch.offsets)
        for offset, stamp, key, value in zip(
            batch.offsets, batch.stamps, names, batch.values, strict=True
        ):
            wanted = key is None or open_to(key.decode(errors="replace"))
            if value is not None and (wanted or value.startswith(_MERGE)):
                (event,) = _decoded([value])
                if event is not None:
                    told.take(offset, stamp, event)
            else:
                told.ids.passed(stamp)


def _decoded(values: Sequence[bytes | None]) -> list[Any]:
    """The events; None for a record that is none: it went to the dead letters."""
    try:
        return list(map(events.DECODER.decode, values))  # type: ignore[arg-type]
    except _BAD:
        return [_one(value) for value in values]


def _one(value: bytes | None) -> Any:
    try:
        return events.DECODER.decode(value) if value is not None else None
    except _BAD:
        return None
