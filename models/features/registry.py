"""FEATURES: the features of a person's row. A new one is a file and a line here.

Each feature module has `FIELDS` (its fields in the row's layout), `update(rows, columns, folded)` (one
batch, vectorised, in place), `value(row)` and `reference(events, merges, before)` (the slow definition
that `update` and `value` must equal). `before` is the value after all earlier events, so that the
definition goes on from a snapshot: reference(a + b) = reference(b, before=reference(a)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features import counts, days, enter, ring, session
from models.features.columns import Columns, Folded
from models.features.overflow import Overflow
from schemas.actions import RECENT
from schemas.errors import FreshetError
from schemas.version import Upgrades, upgrade


class Feature(NamedTuple):
    """`order`: "commutative" (late and shuffled events change nothing) or "log-ordered"."""

    name: str
    order: Literal["commutative", "log-ordered"]
    fields: tuple[Any, ...]
    update: Callable[[NDArray[np.void], Columns, Folded], None]
    value: Callable[[np.void], Any]
    reference: Callable[..., Any]
    """(a person's events, merges that they received, the value before them or None) -> value, by the
    slow definition."""
    kernel: str = ""
    """Name of the C function that equals `update` (models/kernels/act.h); "": numpy folds the feature."""


def _with_ring(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """The ring's update does this one's, too."""


# in the order of their updates: the ring's needs the session's rank, and moves the days
FEATURES: Final = (
    Feature(
        "counts",
        "commutative",
        counts.FIELDS,
        counts.update,
        counts.value,
        counts.reference,
        kernel="fold_counts",
    ),
    Feature(
        "session",
        "log-ordered",
        session.FIELDS,
        session.update,
        session.value,
        session.reference,
        kernel="fold_session",
    ),
    Feature(
        "ring",
        "log-ordered",
        ring.FIELDS,
        enter.update,
        ring.value,
        ring.reference,
        kernel="fold_ring",
    ),
    Feature(
        "days",
        "log-ordered",
        days.FIELDS,
        _with_ring,
        days.value,
        days.reference,
        kernel="fold_days",
    ),
)

VERSION: Final = 2
UPGRADES: Final[Upgrades[bytes]] = {}
"""Row as stored by the version before -> the same row in this version (`schemas.version`)."""
_THIS: Final = VERSION.to_bytes(2, "little")
_WRONG_SIZE: Final = (
    "a person's row has the wrong size: fold the log again (freshet rebuild --from beginning)"
)
LINKED: Final = 1
"""Bit of `flags`: this anonymous id was linked, so its actions belong to another person."""
OVERFLOW: Final = 2
"""Bit of `flags`: the person has a record of `models.features.overflow`."""
HAS_MERGED: Final = 4
"""Bit of `flags`: the list has held actions of another id (`models.features.ring.MERGED`)."""


SEEN_FIELDS: Final = (("seen_n", "<u4"), ("seen_limit", "<u4"))
"""Of the string of what they have seen (`models.seen`): how many entries it has, and how many at its next
compaction (0: there is no string so far)."""


def _layout() -> np.dtype[np.void]:
    fields: list[Any] = [("version", "<u2"), ("flags", "<u2"), ("duplicates", "<u4"), *SEEN_FIELDS]
    fields += [field for feature in FEATURES for field in feature.fields]
    fields.sort(key=lambda field: field[0] == "ring")  # last, so that unused slots are not stored
    return np.dtype(fields)


ROW: Final = _layout()
FIXED: Final = ROW.itemsize - ring.RING_SIZE * ring.ENTRY.itemsize


class ForeignRow(FreshetError, ValueError):
    """A stored row was written by code of another version, or is not a row."""


def upgraded(blob: bytes) -> bytes:
    """A row as stored by this version or the one before, in this version. Errors: `ForeignRow`."""
    held = int.from_bytes(blob[:2], "little")
    return upgrade("a person's row", held, VERSION, UPGRADES, blob, ForeignRow)


def read_rows(blobs: Sequence[bytes | None]) -> NDArray[np.void]:
    """(U,) the stored rows; zeros where there is none. Errors: `ForeignRow`."""
    size, rows = ROW.itemsize, np.zeros(len(blobs), ROW)
    room = rows.view(np.uint8).data
    for number, blob in enumerate(blobs):
        if blob is not None:
            if blob[:2] != _THIS:
                blob = upgraded(blob)
            if not FIXED <= len(blob) <= size:
                raise ForeignRow(_WRONG_SIZE)
            room[number * size : number * size + len(blob)] = blob
    return rows


def read_row(blob: bytes | None) -> np.void:
    """The stored row; zeros where there is none. Errors: `ForeignRow`."""
    if blob is None:
        empty: np.void = np.zeros(1, ROW)[0]
        return empty
    blob = upgraded(blob)
    if not FIXED <= len(blob) <= ROW.itemsize:
        raise ForeignRow(_WRONG_SIZE)
    row: np.void = np.frombuffer(blob.ljust(ROW.itemsize, b"\0"), ROW)[0]
    return row


def pack_rows(rows: NDArray[np.void]) -> list[bytes]:
    """Each row's bytes without the empty slots of the ring."""
    data, size, entry = rows.tobytes(), ROW.itemsize, ring.ENTRY.itemsize
    used = FIXED + np.minimum(rows["n"], ring.RING_SIZE).astype(np.int64) * entry
    return [
        data[at : at + end]
        for at, end in zip(range(0, len(data), size), used.tolist(), strict=True)
    ]


def fold(
    rows: NDArray[np.void], columns: Columns, overflow: dict[int, Overflow] | None = None
) -> Folded:
    """Folds a batch into the rows (in place), feature by feature, and gives the other results. `overflow`:
    by row, of all people who have any; it is changed, and the rows' bit of it."""
    entered = RECENT[columns.action]
    folded = Folded(
        entered,
        columns.where(entered),
        rows["n"].astype(np.int64),
        {} if overflow is None else overflow,
    )
    enter.begin(rows, folded)
    for feature in FEATURES:
        feature.update(rows, columns, folded)
    mark(rows, folded.overflow)
    rows["version"] = VERSION
    return folded


def mark(rows: NDArray[np.void], overflow: dict[int, Overflow]) -> None:
    """Writes into the flags of these rows whether the person has an overflow."""
    changed = [(person, bool(held)) for person, held in overflow.items() if held.changed]
    if changed:
        people, some = np.array(changed, np.int64).T
        flags = rows["flags"][people]
        rows["flags"][people] = np.where(some, flags | OVERFLOW, flags & ~np.uint16(OVERFLOW))
