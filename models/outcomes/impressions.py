"""Impressions of a person: the last 64 items shown, how often each and when last. Log-ordered.

One slot of a slate is one impression. A slate enters whole, then the items with the oldest last showing
are dropped: an item shown again after that counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel

MAX_IMPRESSIONS: Final = 64
IMPRESSION: Final = np.dtype([("item", "<u8"), ("count", "<u4"), ("last", "<u4")])
"""`last` in s. At most `MAX_IMPRESSIONS` rows, by (last, item) ascending."""
Row = tuple[int, int, int]
MAX_BYTES: Final = 2 + 17 * MAX_IMPRESSIONS + 1
_WIDTHS: Final[dict[int, np.dtype[Any]]] = {2: np.dtype("u1"), 3: np.dtype("<u4")}
"""By form of the stored rows: how wide their counts are."""


def write(rows: NDArray[np.void]) -> bytes:
    """The rows as they are stored. Those of one slate were shown at one time, so a time is stored once: u1
    form (`_WIDTHS`), u1 number of times, the times u4, u1 rows of each, the items u8, the counts of the
    form's width; and one 0 where that makes a multiple of 16 bytes, little-endian."""
    last = rows["last"]
    starts = np.flatnonzero(np.diff(last, prepend=last[:1] + 1))
    times, rows_each = last[starts], np.diff(starts, append=len(rows))
    form = 2 if not len(rows) or int(rows["count"].max()) < 256 else 3
    stored = b"".join(
        [
            bytes((form, len(times))),
            times.astype("<u4").tobytes(),
            rows_each.astype("u1").tobytes(),
            rows["item"].tobytes(),
            rows["count"].astype(_WIDTHS[form]).tobytes(),
        ]
    )
    return stored if len(stored) % IMPRESSION.itemsize else stored + b"\0"


def read(blob: bytes | None) -> NDArray[np.void]:
    """The rows of `read_by_numpy`."""
    if kernel is None or not blob:
        return read_by_numpy(blob)
    rows = np.empty(MAX_IMPRESSIONS, IMPRESSION)
    out = kernel.ffi.from_buffer("uint8_t[]", rows)
    n = kernel.lib.impressions_read(blob, len(blob), out)
    return rows[:n] if n >= 0 else read_by_numpy(blob)


def count(blob: bytes) -> int:
    """How many rows are stored. Errors: ValueError for bytes that are no rows, or too many."""
    n: int = -1 if kernel is None else kernel.lib.impressions_count(blob, len(blob))
    return n if n >= 0 else len(read_by_numpy(blob))


def read_by_numpy(blob: bytes | None) -> NDArray[np.void]:
    """The stored rows; none where nothing is stored. What has a multiple of 16 bytes was stored by an earlier
    version, which had `IMPRESSION` for its form. Errors: ValueError for bytes that are no rows, or more than
    `MAX_IMPRESSIONS`."""
    if not blob or not len(blob) % IMPRESSION.itemsize:
        rows = np.frombuffer(blob or b"", IMPRESSION)
        if len(rows) > MAX_IMPRESSIONS:
            raise ValueError("these are too many impressions")
        return rows
    width = _WIDTHS.get(blob[0])
    if width is None or len(blob) < 2:
        raise ValueError("these are no impressions")
    start = 2 + 4 * blob[1]
    rows_each = blob[start : start + blob[1]]
    n, start = sum(rows_each), start + blob[1]
    size = start + n * (8 + width.itemsize)
    if n > MAX_IMPRESSIONS or len(blob) != size + (size % IMPRESSION.itemsize == 0):
        raise ValueError("these are no impressions")
    rows = np.empty(n, IMPRESSION)
    rows["item"] = np.frombuffer(blob, "<u8", n, start)
    rows["count"] = np.frombuffer(blob, width, n, start + 8 * n)
    times = np.frombuffer(blob, "<u4", blob[1], 2)
    rows["last"] = np.repeat(times, np.frombuffer(rows_each, "u1"))
    return rows


def update(held: NDArray[np.void], items: NDArray[np.uint64], at: int) -> NDArray[np.void]:
    """The rows after a slate of `items` (distinct) was shown at `at`, s.

    >>> update(np.array([(7, 1, 60)], IMPRESSION), np.array([7, 8], np.uint64), 90).tolist()
    [(7, 2, 90), (8, 1, 90)]
    """
    new = np.empty(len(items), IMPRESSION)
    new["item"], new["count"], new["last"] = items, 1, at
    return merge(held, new)


def merge(held: NDArray[np.void], new: NDArray[np.void]) -> NDArray[np.void]:
    """The rows of both, of one person. Each has an item once; counts of an item in both add up.

    >>> one = np.array([(7, 2, 60)], IMPRESSION)
    >>> merge(one, np.array([(8, 1, 30), (7, 3, 50)], IMPRESSION)).tolist()
    [(8, 1, 30), (7, 5, 60)]
    """
    rows = np.concatenate([held, new])
    order = np.argsort(rows["item"], kind="stable")
    ordered = rows["item"][order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(again):
        before, now = order[again], order[again + 1]
        rows["count"][now] += rows["count"][before]
        rows["last"][now] = np.maximum(rows["last"][now], rows["last"][before])
        stays = np.ones(len(rows), np.bool_)
        stays[before] = False
        rows = rows[stays]
    return rows[np.lexsort((rows["item"], rows["last"]))[-MAX_IMPRESSIONS:]]


def updated(stored: bytes, items: bytes, at: int) -> bytes:
    """The stored rows after a slate of `items` (u64) was shown at `at`, s; an item that it has twice counts
    once. Errors: ValueError for bytes that are no rows."""
    if kernel is not None:
        made = bytearray(MAX_BYTES)
        out = kernel.ffi.from_buffer("uint8_t[]", made)
        n = kernel.lib.impressions_update(stored, len(stored), items, len(items) // 8, at, out)
        if n >= 0:
            return bytes(made[:n])
    return updated_by_numpy(stored, items, at)


def updated_by_numpy(stored: bytes, items: bytes, at: int) -> bytes:
    new = np.unique(np.frombuffer(items, "<u8"))
    return write(update(read(stored), new, at) if len(new) else read(stored))


def value(rows: NDArray[np.void]) -> list[Row]:
    """(item, count, last) of each."""
    return [(item, count, last) for item, count, last in rows.tolist()]


def reference(slates: Iterable[tuple[int, Sequence[int]]]) -> list[Row]:
    """The value after every slate (at in s, items), in the order of the log, by the slow definition."""
    return reference_of_batches([(item, 1, at) for item in items] for at, items in slates)


def reference_of_batches(batches: Iterable[Sequence[Row]]) -> list[Row]:
    """The same from batches of (item, count, last): a slate each, or a merged anonymous id."""
    held: dict[int, tuple[int, int]] = {}
    for rows in batches:
        for item, more, at in rows:
            last, count = held.get(item, (0, 0))
            held[item] = max(last, at), count + more
        for item, _ in sorted(held.items(), key=lambda one: (one[1][0], one[0]))[:-MAX_IMPRESSIONS]:
            del held[item]
    return sorted(
        ((item, count, last) for item, (last, count) in held.items()),
        key=lambda row: (row[2], row[0]),
    )


def decayed(rows: NDArray[np.void], now: int, half_life: int) -> NDArray[np.float64]:
    """(n,) count x 2^(-age / half-life) of each, age = now - last, at least 0. Times in ms.

    >>> float(decayed(np.array([(7, 3, 60)], IMPRESSION), now=120_000, half_life=60_000)[0])
    1.5
    """
    age = np.maximum(now - rows["last"].astype(np.int64) * 1000, 0)
    counts: NDArray[np.float64] = rows["count"] * np.exp2(-age / half_life)
    return counts
