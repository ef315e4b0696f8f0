"""A person's vector in the space of a release: the faded sum of the items of their last actions.

It is a function of the last K actions and the release, and carries the release's id: a cache, never an
accumulator. An item weighs `interest.VECTOR_FADING` at its rank among the items in the space. All sums are
exact (see `interest.VECTOR_FADING`), so a batch of any size gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import U64, Mask
from models.features.registry import ROW
from models.features.ring import BACK, ENTRY, RING_SIZE
from models.kernels.loading import kernel
from models.release import content
from models.release.interest import LATEST_ACTIONS, POSITIVE, VECTOR_FADING
from models.release.release import Space
from schemas.state import vectors as stored

_WEIGHTS: Final = VECTOR_FADING.astype(np.float32)
_MAX_PREFIX_BITS: Final = 24
_PEOPLE_PER_CHUNK: Final = 128
_SPEAKS: Final = np.zeros(256, np.bool_)
"""By code of an action: it is positive."""
_SPEAKS[: len(POSITIVE)] = POSITIVE
_OF_ROW: Final[Mapping[str, Any]] = ROW.fields or {}
_OF_ENTRY: Final[Mapping[str, Any]] = ENTRY.fields or {}
_LAYOUT: Final = np.array(
    [
        *(ROW.itemsize, _OF_ROW["n"][1], _OF_ROW["ring"][1], RING_SIZE, ENTRY.itemsize),
        *(_OF_ENTRY[name][1] for name in ("item", "action", "flags")),
    ],
    np.int64,
)
"""Of a row and its list, as person.c reads them."""


def person_vector(hashes: U64, space: Space) -> tuple[content.Vector, bool]:
    """(DIM,) vector of a person whose `interest.items` (newest first) are `hashes`, on `content`'s grid;
    zeros where the space has none of them. And whether the space has them all."""
    rows = space.find(hashes)
    vectors = space.vectors[rows[rows >= 0]]
    return content.person_vector(vectors, VECTOR_FADING[: len(vectors)]), len(vectors) == len(
        hashes
    )


class Encoded(NamedTuple):
    """Vectors of U people: `grid` (U, DIM) int16, coordinates times `content.GRID`; `has_vector` (U,): the
    space has an item of theirs; `complete` (U,): it has all of them."""

    grid: NDArray[np.int16]
    has_vector: Mask
    complete: Mask


class Encoder:
    """`person_vector` of many people at once, from their rows."""

    def __init__(self, release: str, space: Space) -> None:
        self.release = release
        grid = bytes(content.DIM * 2)
        self._heads = [
            stored.ENCODER.encode(stored.Vector(release, complete, grid))[: -len(grid)]
            for complete in (False, True)
        ]
        self._vectors = np.ascontiguousarray(space.vectors, np.float32)
        self._find = Finder(space.hashes)
        self._given: tuple[Any, ...] = ()
        """What the kernel takes beside the rows."""
        if kernel is not None:
            pointer = kernel.ffi.from_buffer
            self._given = (
                pointer("int64_t[]", _LAYOUT),
                LATEST_ACTIONS,
                pointer("uint8_t[]", _SPEAKS),
                BACK,
                pointer("float[]", _WEIGHTS),
                *self._find.given(pointer),
                pointer("float[]", self._vectors),
            )

    def encode(self, rows: NDArray[np.void]) -> Encoded:
        """`rows`: (U,) of `models.features.registry.ROW`."""
        if kernel is None:
            return self.encode_by_numpy(rows)
        pointer, n = kernel.ffi.from_buffer, len(rows)
        grid, (some, complete) = np.empty((n, content.DIM), "<i2"), np.empty((2, n), np.bool_)
        kernel.lib.person_encode(
            pointer("uint8_t[]", np.ascontiguousarray(rows, ROW)),
            n,
            *self._given,
            pointer("int16_t[]", grid),
            pointer("uint8_t[]", some),
            pointer("uint8_t[]", complete),
        )
        return Encoded(grid, some, complete)

    def encode_by_numpy(self, rows: NDArray[np.void]) -> Encoded:
        """The definition of `encode`."""
        items, speaks = _last(rows)
        found = np.full(items.shape, -1)
        found[speaks] = self._find(items[speaks])
        in_space = found >= 0
        # an item that is not in the space weighs 0, so any row will do for it
        rank = np.cumsum(in_space, axis=1) - 1
        weights = np.where(in_space, _WEIGHTS[rank], np.float32(0))
        complete: Mask = np.all(in_space == speaks, axis=1)
        some: Mask = np.any(in_space, axis=1)
        total = np.zeros((len(rows), content.DIM), np.float32)
        if len(self._vectors):
            self._add_up(np.maximum(found, 0), weights, total)
        grid = content.rows_on_grid(total.astype(np.float64)) * content.GRID
        return Encoded(grid.astype("<i2"), some, complete)

    def _add_up(
        self, found: NDArray[np.int64], weights: NDArray[np.float32], total: NDArray[np.float32]
    ) -> None:
        """Weighted sums of the vectors at (U, LAST) `found`, by chunks that fit the CPU's cache."""
        for at in range(0, len(found), _PEOPLE_PER_CHUNK):
            chunk = slice(at, at + _PEOPLE_PER_CHUNK)
            vectors = self._vectors.take(found[chunk], axis=0, mode="clip")
            np.matmul(weights[chunk, None], vectors, out=total[chunk, None])

    def stored(self, rows: NDArray[np.void]) -> list[bytes | None]:
        """Of each row the encoded `schemas.state.vectors.Vector`, or None for a person without one."""
        encoded, size = self.encode(rows), content.DIM * 2
        data, heads = encoded.grid.tobytes(), self._heads
        return [
            heads[complete] + data[at : at + size] if has_vector else None
            for at, has_vector, complete in zip(
                range(0, len(data), size),
                encoded.has_vector.tolist(),
                encoded.complete.tolist(),
                strict=True,
            )
        ]


class Finder:
    """`Space.find` over many hashes, ten times quicker: hashes are spread evenly, so their first bits
    give the row to begin at. `hashes` ascend."""

    def __init__(self, hashes: U64) -> None:
        bits = min(max(len(hashes), 1).bit_length() + 2, _MAX_PREFIX_BITS)
        self._shift, self._size = np.uint64(64 - bits), len(hashes)
        first = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._start = np.searchsorted(hashes, first)
        self._hashes = np.append(hashes, np.uint64(2**64 - 1))

    def given(self, pointer: Callable[[str, Any], Any]) -> tuple[Any, ...]:
        """What the kernel takes to find an item: hashes, the rows to begin at, the shift, how many."""
        hashes = pointer("uint64_t[]", self._hashes), pointer("int64_t[]", self._start)
        return *hashes, int(self._shift), self._size

    def __call__(self, hashes: U64) -> NDArray[np.int64]:
        """(n,) row of each, -1 where there is none."""
        at = self._start[(hashes >> self._shift).astype(np.int64)]
        short = np.flatnonzero(self._hashes[at] < hashes)
        while len(short):
            at[short] += 1
            short = short[self._hashes[at[short]] < hashes[short]]
        return np.where((self._hashes[at] == hashes) & (at < self._size), at, -1)


def _last(rows: NDArray[np.void]) -> tuple[U64, Mask]:
    """(U, LAST) items of the last actions, newest first, and which are `POSITIVE` and not
    taken back."""
    n = rows["n"].astype(np.int64)
    back = np.arange(LATEST_ACTIONS)
    who, at = np.arange(len(rows))[:, None], (n[:, None] - 1 - back) % RING_SIZE
    speaks = (back < n[:, None]) & _SPEAKS[rows["ring"]["action"][who, at]]
    speaks &= rows["ring"]["flags"][who, at] & BACK == 0
    return rows["ring"]["item"][who, at].astype(np.uint64), speaks
