"""Counts of a person's actions by type, and the times of the first and newest one. Commutative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features.columns import Columns, Folded
from models.features.plain import Event
from schemas.actions import ACTIONS
from schemas.events import Merge

FIELDS = (("counts", "<u4", (len(ACTIONS),)), ("first", "<i8"), ("newest", "<i8"))


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    n = len(ACTIONS)
    flat = np.bincount(columns.who * n + columns.action, minlength=columns.people * n)
    rows["counts"] += flat.reshape(-1, n).astype(np.uint32)
    present, start = columns.present, columns.start[columns.count > 0]
    first = np.minimum.reduceat(columns.time, start)
    held = rows["first"][present]
    rows["first"][present] = np.where(held == 0, first, np.minimum(held, first))
    rows["newest"][present] = np.maximum(
        rows["newest"][present], np.maximum.reduceat(columns.time, start)
    )


def value(row: np.void) -> Any:
    return row["counts"].tolist(), int(row["first"]), int(row["newest"])


def reference(events: Sequence[Event], merges: Sequence[Merge] = (), before: Any = None) -> Any:
    held, earliest, latest = before or ([0] * len(ACTIONS), 0, 0)
    counts = list(held)
    for event in events:
        counts[event.action] += 1
    for merge in merges:
        for code, n in enumerate(merge.counts):
            counts[code] += n
    first = [it for it in (earliest, *(merge.first for merge in merges)) if it]
    newest = [latest, *(merge.newest for merge in merges)]
    times = [event.time for event in events]
    return counts, min(first + times, default=0), max(newest + times)
