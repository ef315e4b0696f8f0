"""Reads one partition's log into the slow definitions, up to the offset that is asked for."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from infra.log_reader import Batch, LogReader
from models.reference.partition import Partition
from schemas import events
from schemas.alphabet import Millis
from schemas.topics import EVENTS

_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError)


class Walk:
    """`reference` has every record before `next`, or only those of people who may be checked. `first`: where
    to start, if not at the log's start; then `reference` holds the earlier state.

    Errors of `advance_to`: `infra.log_reader.OffTheLog`, the log's own.
    """

    def __init__(
        self, log: LogReader, partition: int, reference: Partition, first: int | None = None
    ) -> None:
        self._log, self.partition, self.reference = log, partition, reference
        self.start, self.end = log.bounds(EVENTS.name, partition)
        self.first = self.next = self.start if first is None else first
        self.events = 0
        self.whole = True
        """No record was passed over, so that `reference` has all tallies."""

    @property
    def newest(self) -> int:
        """Highest time so far of a record that decodes, ms."""
        return self.reference.ids.newest

    def refresh_end(self) -> int:
        """The log's current end, which is also stored as `end`."""
        _, self.end = self._log.bounds(EVENTS.name, self.partition)
        return self.end

    def advance_to(self, end: int) -> None:
        """Reads records up to offset `end`; does nothing where `next` is beyond."""
        if end <= self.next:
            return
        for batch in self._log.read(EVENTS.name, self.partition, self.next, end):
            self.events += len(batch.offsets)
            self._fold(batch)
        self.next = end

    def _fold(self, batch: Batch) -> None:
        reference = self.reference
        everyone, open_to = reference.sums is not None, reference.sample.open_to
        for offset, timestamp, event in zip(
            batch.offsets, batch.timestamps, _decoded(batch), strict=True
        ):
            if event is None:
                continue
            # merges are numbered over all people
            if everyone or isinstance(event, events.Merge) or open_to(event.person):
                reference.take(offset, timestamp, event)
            else:
                reference.pass_over(offset, timestamp, event)
                self.whole = False


def _decoded(batch: Batch) -> list[Any]:
    """The events; None for a record that does not decode, which is a dead letter."""
    try:
        return list(events.decode_all(batch.values, batch.timestamps))  # type: ignore[arg-type]
    except _BAD:
        return list(map(_decode_one, batch.values, batch.timestamps))


def _decode_one(value: bytes | None, timestamp: Millis) -> Any:
    try:
        return events.decode(value, timestamp) if value is not None else None
    except _BAD:
        return None
