"""`events` without duplicates: the records that the fold takes, by the fold's own rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from flows.people.batch import Decoded, deduped
from flows.people.layers import MERGE
from flows.people.steps import decode
from infra.log_reader import Batch, LogReader
from infra.settings import Settings
from models.dedupe import Deduper
from schemas.events import Merge
from schemas.topics import EVENTS

Place = tuple[int, int]
"""(offset, index)."""


@dataclass
class Distinct:
    """The distinct records of one partition, read from the log's beginning: earlier records decide.

    `window`: of de-duplication, ms.
    """

    window: int
    _received: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deduper = Deduper(self.window)

    def take(self, batch: Batch) -> Decoded:
        """The records of the next batch that decode and are no duplicates."""
        decoded = deduped(decode([batch])[0], [self._deduper])
        merges = decoded.columns.kind == MERGE
        if not merges.any():
            return decoded
        stays = ~merges
        for row in np.flatnonzero(merges).tolist():
            stays[row] = self._is_new(decoded.columns.event(row))
        return decoded.where(stays)

    def places(self, batch: Batch) -> set[Place]:
        """The places of those records."""
        taken = self.take(batch)
        indexes = taken.indexes if taken.indexes is not None else np.zeros(len(taken), np.int64)
        return set(zip(taken.offsets.tolist(), indexes.tolist(), strict=True))

    def _is_new(self, event: object) -> bool:
        """Whether a merge's number is above all earlier ones of its source; other events always are new."""
        if not isinstance(event, Merge):
            return True
        number = (event.offset, event.n)
        new = number > self._received.get(event.source, (-1, 0))
        if new:
            self._received[event.source] = number
        return new


def places(batch: Batch) -> list[Place]:
    """The place of each record of the batch."""
    return list(zip(batch.offsets, batch.indexes or [0] * len(batch.offsets), strict=True))


def distinct(batches: Iterable[Batch], settings: Settings) -> Iterator[Decoded]:
    """The distinct records of the batches of one partition, from its beginning."""
    view = Distinct(settings.dedupe_ms)
    return map(view.take, batches)


def events(log: LogReader, settings: Settings, partition: int, end: int) -> Iterator[Decoded]:
    """The distinct events of a partition at offsets below `end`. Errors: the log's."""
    start = log.bounds(EVENTS.name, partition)[0]
    return distinct(log.read(EVENTS.name, partition, start, end), settings)
