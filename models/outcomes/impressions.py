"""Impressions of a person: the last 64 items shown, how often each and when last. Log-ordered.

One slot of a slate is one impression. A slate enters whole, then the items with the oldest last showing
are dropped: an item shown again after that counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_IMPRESSIONS: Final = 64
IMPRESSION: Final = np.dtype([("item", "<u8"), ("count", "<u4"), ("last", "<u4")])
"""`last` in s. At most `MAX_IMPRESSIONS` rows, by (last, item) ascending."""
Row = tuple[int, int, int]


def read(blob: bytes | None) -> NDArray[np.void]:
    """The stored rows; none where nothing is stored. Errors: ValueError for bytes that are no rows."""
    return np.frombuffer(blob or b"", IMPRESSION)


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
