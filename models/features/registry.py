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

from models.features import counts, days, enter, ring, session, stored
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

VERSION: Final = 3
_THIS: Final = VERSION.to_bytes(2, "little")
_NO_ROW: Final = (
    "what is stored is no row of a person: fold the log again (freshet rebuild --from beginning)"
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
_FORM: Final = stored.Form(ROW, VERSION)


class ForeignRow(FreshetError, ValueError):
    """A stored row was written by code of another version, or is not a row."""


def _of_version_2(blob: bytes) -> bytes:
    """A row that is stored as it is in memory, without the empty slots of the ring."""
    if not _FORM.fixed <= len(blob) <= ROW.itemsize:
        raise ForeignRow(_NO_ROW)
    row = np.frombuffer(_THIS + blob[2:].ljust(ROW.itemsize - 2, b"\0"), ROW)
    return pack_rows(row)[0]


UPGRADES: Final[Upgrades[bytes]] = {2: _of_version_2}
"""Row as stored by the version before -> the same row in this version (`schemas.version`)."""


def upgraded(blob: bytes) -> bytes:
    """A row as stored by this version or the one before, in this version. Errors: `ForeignRow`."""
    held = int.from_bytes(blob[:2], "little")
    return upgrade("a person's row", held, VERSION, UPGRADES, blob, ForeignRow)


def read_rows(blobs: Sequence[bytes | None]) -> NDArray[np.void]:
    """(U,) the stored rows; zeros where there is none. Errors: `ForeignRow`."""
    given = [
        b"" if blob is None else blob if blob[:2] == _THIS else upgraded(blob) for blob in blobs
    ]
    rows, read = _FORM.read(given)
    if read < len(given):
        raise ForeignRow(_NO_ROW)
    return rows


def read_row(blob: bytes | None) -> np.void:
    """The stored row; zeros where there is none. Errors: `ForeignRow`."""
    row: np.void = (np.zeros(1, ROW) if blob is None else np.frombuffer(row_bytes(blob), ROW))[0]
    return row


def row_bytes(blob: bytes) -> bytearray:
    """The bytes of the stored row as `ROW`. Errors: `ForeignRow`."""
    read = _FORM.read_one(blob if blob[:2] == _THIS else upgraded(blob))
    if read is None:
        raise ForeignRow(_NO_ROW)
    return read


def pack_rows(rows: NDArray[np.void]) -> list[bytes]:
    """Each row as it is stored (`models.features.stored`)."""
    return _FORM.pack(rows)


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
