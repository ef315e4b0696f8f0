"""One read while it is folded: its spans, the slots of its people, and which partitions had to leave it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from types import TracebackType
from typing import Final

import msgspec
import numpy as np

from flows.people.batch import Decoded, Effects, Span
from flows.people.outcome_records import OutcomeRecords
from flows.people.partition import PartitionState
from models.arrays import I64

UNREADABLE: Final = (ValueError, msgspec.MsgspecError)
"""Errors of a stored value that cannot be read."""
Faults = dict[int, Exception]
"""Partition -> why it had to leave the read."""


class SpanFold:
    """The fold of one span."""

    __slots__ = ("effects", "missing", "outcomes", "span", "state")

    def __init__(self, span: Span, state: PartitionState, batch: Decoded) -> None:
        rows = slice(span.start, span.stop)
        self.span, self.state = span, state
        self.effects = Effects(state.write_of(span), batch.offsets[rows], batch.columns.name[rows])
        self.outcomes: OutcomeRecords = []
        """The records that the slates take."""
        self.missing: list[bytes] = []
        """The keys that the slates read for them."""


class Guard:
    """Takes the errors of values of one partition that cannot be read, which then leaves the read."""

    __slots__ = ("_faults", "_partition")

    def __init__(self, faults: Faults, partition: int) -> None:
        self._faults, self._partition = faults, partition

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool:
        if isinstance(error, UNREADABLE):
            self._faults.setdefault(self._partition, error)
            return True
        return False


class ReadFold:
    """The fold of `batch`. `states`: by partition."""

    def __init__(self, batch: Decoded, states: Mapping[int, PartitionState]) -> None:
        self.batch, self.faults = batch, Faults()
        self._spans = [SpanFold(span, states[span.partition], batch) for span in batch.spans]
        self._by_partition = {it.span.partition: it for it in self._spans}
        self._stops = [it.span.stop for it in self._spans]
        self.slots: I64 = np.empty(0, np.int64)
        """(n,) of each record whose row may change; -1 for the others."""
        self.dropped_slots: I64 = np.empty(0, np.int64)
        """Of the actions in `batch.dropped`, in their order; -1 for its other records."""
        self.acted: list[I64] = []
        """Slots of rows that changed, some in each array."""
        self.recent_changed: list[I64] = []
        """Those of rows whose list of recent actions changed."""

    @property
    def spans(self) -> list[SpanFold]:
        """The spans whose partitions are still in the read."""
        if not self.faults:
            return self._spans
        return [it for it in self._spans if it.span.partition not in self.faults]

    def leave(self, faults: Mapping[int, Exception]) -> None:
        """Takes partitions out of the read, before any row was folded."""
        self.faults.update(faults)
        self.batch = self.batch.without(faults)
        self._spans = [it for it in self._spans if it.span.partition not in faults]
        for it, span in zip(self._spans, self.batch.spans, strict=True):
            it.span = span
        self._stops = [it.span.stop for it in self._spans]

    def span_of(self, row: int) -> SpanFold:
        """The span of a record, by its row in the columns."""
        return self._spans[bisect_right(self._stops, row)]

    def span_in(self, partition: int) -> SpanFold:
        """The span of a partition of the read."""
        return self._by_partition[partition]

    def guarded(self, partition: int) -> Guard:
        return Guard(self.faults, partition)

    def staying(self, rows: I64) -> I64:
        """Those of the records at `rows` whose partitions are still in the read."""
        if not self.faults:
            return rows
        inside = np.zeros(len(self.batch), np.bool_)
        for it in self.spans:
            inside[it.span.start : it.span.stop] = True
        return rows[inside[rows]]
