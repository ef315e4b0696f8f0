"""The steps of `people` that need no store: decoding a read, and building a fold from settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flows.kit.dead_letters import letter, reason
from flows.people.batch import Decoded, Span
from flows.people.fold import PeopleFold
from flows.people.rows import Fetch
from infra.log_reader import Batch
from infra.settings import Settings
from models import records
from models.arrays import I64
from models.outcomes.touched import Reach
from models.records import ERRORS, UNDECODED, Remembered
from schemas import events
from schemas.dead_letters import DeadLetter
from schemas.keys import Keyspace
from schemas.state.fences import Fence
from schemas.times import DAY_MS
from schemas.topics import EVENTS


def decode(
    batches: Sequence[Batch], remembered: Remembered | None = None
) -> tuple[Decoded, list[DeadLetter]]:
    """The events of a read, a batch a partition, and a dead letter for each record that does not decode.
    `remembered`: hashes, from read to read."""
    values: list[bytes | None] = []
    timestamps: list[int] = []
    offsets: list[int] = []
    spans: list[Span] = []
    stop = 0
    for batch in batches:
        values += batch.values
        timestamps += batch.timestamps
        offsets += batch.offsets
        start, stop = stop, stop + len(batch.offsets)
        spans.append(Span(batch.partition, batch.first, batch.next, start, stop))
    columns = records.decode(values, timestamps, remembered)
    found = Decoded(columns, np.array(offsets, np.int64), spans, _indexes(batches))
    bad = columns.kind == UNDECODED
    if not bad.any():
        return found, []
    letters = [
        _letter(batch, row - span.start)
        for batch, span in zip(batches, spans, strict=True)
        for row in (span.start + np.flatnonzero(bad[span.start : span.stop])).tolist()
    ]
    return found.where(~bad), letters


def _indexes(batches: Sequence[Batch]) -> I64 | None:
    """(n,) of each record in its frame; None where none came in one."""
    if not any(batch.indexes for batch in batches):
        return None
    return np.concatenate(
        [np.array(batch.indexes or [0] * len(batch.offsets), np.int64) for batch in batches]
    )


def _letter(batch: Batch, index: int) -> DeadLetter:
    """The dead letter for record number `index` of a batch, which does not decode."""
    value, why = batch.values[index], "empty"
    if value is not None:
        try:
            events.decode(value, batch.timestamps[index])
        except ERRORS as error:
            why = reason(error)
    return letter(EVENTS.name, batch, index, why)


def new_fold(
    settings: Settings, fences: Mapping[int, Fence], fetch: Fetch, keyspace: Keyspace
) -> PeopleFold:
    return PeopleFold(
        fences,
        fetch,
        settings.dedupe_ms,
        settings.row_cache,
        keyspace,
        reach(settings),
        settings.max_seen,
        settings.strangers,
    )


def reach(settings: Settings) -> Reach:
    """The slots that a purchase without a slate may convert."""
    return Reach(settings.touched_slots, int(settings.attribution_days * DAY_MS))
