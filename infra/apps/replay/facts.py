"""All facts of a log in order of time, in temporary files: those of 10 million events take a gigabyte.

Facts come partition by partition and go into buckets of time, each of which fits in memory; a bucket is put
in order when it is read. So a replay reads what it needs next, and the memory holds one bucket.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64
from schemas.state.facts import NO_ACTIONS, Actions, Delta

FACTS_PER_BUCKET: Final = 100_000
"""About, some 10 MB."""
MAX_BUCKETS: Final = 200
"""Each has two open files."""
_OF_PAIRS: Final = 2
"""The last columns of `Actions` have a row a pair."""
_FACT: Final = np.dtype(
    list(zip(Actions._fields, (column.dtype for column in NO_ACTIONS), strict=True))[:-_OF_PAIRS]
)
_PAIR: Final = np.dtype(
    list(zip(Actions._fields, (column.dtype for column in NO_ACTIONS), strict=True))[-_OF_PAIRS:]
)


class FactsByTime:
    """Facts sorted by time, then by the order in which they were added; a place is an index in that order.
    Add all of them before you read any. Reads do not disturb each other, nor those of a forked process."""

    def __init__(self, times: I64, size: int) -> None:
        """`size`: about how many facts will come; `times`: of a sample of them, in s, whose quantiles bound
        the buckets."""
        count = min(MAX_BUCKETS, size // FACTS_PER_BUCKET) if len(times) else 0
        places = np.arange(1, count + 1) * len(times) // (count + 1)
        bounds = np.partition(times, places)[places] if count else np.empty(0, np.int64)
        self._bounds: I64 = np.unique(bounds).astype(np.int64)
        files = ExitStack()
        self._files = [
            tuple(files.enter_context(tempfile.TemporaryFile()) for _ in (_FACT, _PAIR))  # noqa: SIM115
            for _ in range(len(self._bounds) + 1)
        ]
        weakref.finalize(self, files.close)
        self._starts = [0] * (len(self._files) + 1)
        self._counts = np.zeros(len(self._files), np.int64)
        self._read: tuple[int, Actions] = (-1, NO_ACTIONS)  # the bucket read last

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, actions: Actions) -> None:
        """Adds facts, whose `delta` is not kept."""
        bucket = np.searchsorted(self._bounds, actions.time.astype(np.int64), "right")
        rows, pairs = _table(actions[:-_OF_PAIRS], _FACT), _table(actions[-_OF_PAIRS:], _PAIR)
        of_pairs = np.repeat(bucket, actions.pairs)
        for n in np.unique(bucket).tolist():
            here = bucket == n
            self._counts[n] += np.count_nonzero(here)
            for file, table, mine in zip(
                self._files[n], (rows, pairs), (here, of_pairs == n), strict=True
            ):
                file.write(table[mine].tobytes())
                file.flush()
        self._starts = [0, *np.cumsum(self._counts).tolist()]
        self._read = (-1, NO_ACTIONS)

    def place(self, second: int) -> int:
        """How many facts lie before `second`."""
        bucket = int(np.searchsorted(self._bounds, second, "right"))
        if bucket and second == self._bounds[bucket - 1]:
            return self._starts[bucket]
        return self._starts[bucket] + int(np.searchsorted(self._bucket(bucket).time, second))

    def entries(self, first: int, end: int) -> Iterator[Delta]:
        """The facts with first <= place < end, as entries of a delta log that chain, one a bucket."""
        for bucket in range(max(bisect_left(self._starts, first + 1) - 1, 0), len(self._files)):
            start, stop = self._starts[bucket], self._starts[bucket + 1]
            lo, hi = max(first, start), min(end, stop)
            if lo < hi:
                actions = _between(self._bucket(bucket), lo - start, hi - start)
                yield Delta(lo, hi, actions._replace(delta=np.arange(hi - lo, dtype=np.uint32)))

    def entry(self, first: int, end: int) -> Delta:
        """The same facts in one entry."""
        found = [NO_ACTIONS, *(entry.actions for entry in self.entries(first, end))]
        columns: list[Any] = [np.concatenate(column) for column in zip(*found, strict=True)]
        columns[0] = np.arange(max(end - first, 0), dtype=np.uint32)
        return Delta(first, end, Actions(*columns))

    def _bucket(self, n: int) -> Actions:
        if self._read[0] != n:
            self._read = n, self._sorted(n)
        return self._read[1]

    def _sorted(self, n: int) -> Actions:
        rows, pairs = (
            np.frombuffer(_content(file.fileno()), dtype)
            for file, dtype in zip(self._files[n], (_FACT, _PAIR), strict=True)
        )
        order = np.argsort(rows["time"], kind="stable")
        counts = rows["pairs"].astype(np.int64)
        starts = (np.cumsum(counts) - counts)[order]
        counts = counts[order]
        stops = np.cumsum(counts)
        of_pairs = np.repeat(starts - (stops - counts), counts) + np.arange(counts.sum())
        columns: list[Any] = [rows[name][order] for name in _FACT.names or ()]
        columns += [pairs[name][of_pairs] for name in _PAIR.names or ()]
        return Actions(*columns)


def _content(file: int) -> bytes:
    """The whole file, whatever its position."""
    size, chunks = os.fstat(file).st_size, list[bytes]()
    at = 0
    while at < size:
        chunks.append(os.pread(file, size - at, at))
        at += len(chunks[-1])
    return b"".join(chunks)


def _table(columns: tuple[NDArray[Any], ...], dtype: np.dtype[Any]) -> NDArray[np.void]:
    made = np.empty(len(columns[-1]), dtype)
    for name, column in zip(dtype.names or (), columns, strict=True):
        made[name] = column
    return made


def _between(actions: Actions, first: int, end: int) -> Actions:
    a = int(actions.pairs[:first].sum(dtype=np.int64))
    b = a + int(actions.pairs[first:end].sum(dtype=np.int64))
    columns: list[Any] = [column[first:end] for column in actions[:-_OF_PAIRS]]
    columns += [column[a:b] for column in actions[-_OF_PAIRS:]]
    return Actions(*columns)
