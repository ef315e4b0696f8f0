"""Exact search: the inner products of a query with every vector, as whole numbers.

Vectors lie on the grid of `models.release.content`, so their coordinates are whole numbers of 16 bits and
their products exact.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import U64
from models.kernels.loading import Kernel, kernel
from models.memberships import Slots
from models.release import content

BLOCK: Final = 16
"""There is room for a multiple of so many rows."""
MAX_COORDINATE: Final = 32767
NEAR: Final = np.dtype([("product", "<i4"), ("slot", "<i4"), ("hash", "<u8")])
Rows = NDArray[np.int16]


class SearchResult(NamedTuple):
    """Slots, best first; `similarity` is the cosine, in (0, 1]; equal ones are in the order of hashes."""

    slots: Slots
    similarity: NDArray[np.float32]


NOTHING_FOUND: Final = SearchResult(np.empty(0, np.int32), np.empty(0, np.float32))


class Scan:
    """Vectors of slots as dense rows (n, DIM) of coordinates times `content.GRID`, in no order; a row of
    zeros is free. `slots` (n,): whose each is."""

    def __init__(self, compiled: Kernel | None = kernel) -> None:
        self._compiled = compiled
        self.rows: Rows = np.zeros((BLOCK, content.DIM), np.int16)
        self.slots: Slots = np.zeros(BLOCK, np.int32)
        self._places = np.full(BLOCK, -1, np.int32)
        """By slot its row, -1 where it has none."""
        self._free: list[int] = []
        self._end = self._count = 0

    def __len__(self) -> int:
        """How many slots have a vector."""
        return self._count

    def replace(self, slots: Slots, vectors: NDArray[np.float32]) -> None:
        """The vectors (n, DIM) of n distinct slots, on the grid; one of zeros for a slot that has none."""
        self._grow_places(int(slots.max(initial=-1)) + 1)
        coordinates = np.rint(vectors * np.float32(content.GRID)).astype(np.int16)
        wanted, places = coordinates.any(axis=1), self._places[slots]
        gone = (places >= 0) & ~wanted
        self.rows[places[gone]], self.slots[places[gone]] = 0, 0
        self._places[slots[gone]] = -1
        self._free.extend(places[gone].tolist())
        new = slots[wanted & (places < 0)]
        self._places[new] = self._take_places(len(new))
        self._count += len(new) - int(gone.sum())
        places = self._places[slots[wanted]]
        self.rows[places], self.slots[places] = coordinates[wanted], slots[wanted]

    def search(self, query: content.Vector, k: int, hashes: U64) -> SearchResult:
        """At most `k` slots with a positive product with `query` (DIM,), which lies on the grid; `hashes` are
        those of all slots. If there are `k`, those of the lowest product are left out; unless all have it."""
        scaled = np.rint(query.astype(np.float64) * content.GRID)
        coordinates = scaled.clip(-MAX_COORDINATE, MAX_COORDINATE).astype(np.int16)
        near = self._nearest(hashes, coordinates, k)
        product = near["product"]
        if len(near) == k and product[0] > product[-1]:
            near = near[: np.searchsorted(-product, -product[-1])]
        similarity = near["product"] / np.float32(content.GRID * content.GRID)
        return SearchResult(near["slot"].astype(np.int32), similarity.astype(np.float32))

    def _nearest(self, hashes: U64, query: Rows, k: int) -> NDArray[np.void]:
        n = -(-self._end // BLOCK) * BLOCK
        rows, slots = self.rows[:n], self.slots[:n]
        if self._compiled is None:
            return nearest_by_numpy(rows, slots, hashes, query, k)
        return nearest(self._compiled, rows, slots, hashes, query, k)

    def _take_places(self, n: int) -> NDArray[np.int32]:
        """`n` free rows."""
        found = [self._free.pop() for _ in range(min(n, len(self._free)))]
        end = self._end + n - len(found)
        if end > len(self.rows):
            room = BLOCK << (-(-end // BLOCK) - 1).bit_length()
            rows, slots = self.rows, self.slots
            self.rows, self.slots = (
                np.zeros((room, content.DIM), np.int16),
                np.zeros(room, np.int32),
            )
            self.rows[: len(rows)], self.slots[: len(slots)] = rows, slots
        places = np.array([*found, *range(self._end, end)], np.int32)
        self._end = end
        return places

    def _grow_places(self, capacity: int) -> None:
        missing = capacity - len(self._places)
        if missing > 0:
            room = np.full(max(missing, len(self._places)), -1, np.int32)
            self._places = np.concatenate([self._places, room])


def nearest(
    compiled: Kernel, rows: Rows, slots: Slots, hashes: U64, query: Rows, k: int
) -> NDArray[np.void]:
    """As `nearest_by_numpy`, by the kernel. `rows`: a multiple of `BLOCK`."""
    if (
        rows.shape != (len(slots), content.DIM)
        or len(slots) % BLOCK
        or query.shape != (content.DIM,)
    ):
        raise ValueError(f"rows and a query of {content.DIM} coordinates, and a slot a row")
    pointer, near = compiled.ffi.from_buffer, np.empty(min(k, len(slots)), NEAR)
    found = compiled.lib.scan_nearest(
        pointer("int16_t[]", rows),
        pointer("int32_t[]", slots),
        len(slots),
        pointer("uint64_t[]", hashes),
        pointer("int16_t[]", query),
        len(near),
        pointer("uint8_t[]", near),
    )
    return near[:found]


def nearest_by_numpy(
    rows: Rows, slots: Slots, hashes: U64, query: Rows, k: int
) -> NDArray[np.void]:
    """The at most `k` rows (`NEAR`) with a positive product with `query`, the highest first, then by hash."""
    product = rows.astype(np.int64) @ query.astype(np.int64)
    positive = np.flatnonzero(product > 0)
    near = np.empty(len(positive), NEAR)
    near["product"], near["slot"] = product[positive], slots[positive]
    near["hash"] = hashes[near["slot"]]
    best: NDArray[np.void] = near[np.lexsort((near["hash"], -product[positive]))[:k]]
    return best
