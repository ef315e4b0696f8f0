"""The stored form of a person's row: some three fifths of the bytes that it takes in memory.

version u2, form u1. A row of the form `PLAIN` follows as it is in memory, without the empty slots of the
ring. Any other: the number of entries in the ring, of their categories and of their kinds (u1 each); a bit
for each byte before the ring, the lowest first, and those bytes that are not 0; the categories (u4) and
the kinds (u1: action, and flags << 4) that occur, ascending; then of the entries, the oldest first, the
items (u8), the identities (u4), the places of category and kind in those tables (`PAIRED`: in one byte,
the kind's in the high bits; else all categories', then all kinds'), and the times: the oldest, then the
differences, in ms (`SECONDS`: in s), as LEB128 (DWARF 5, 7.6: 7 bits a byte, the lowest first).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, Mask
from models.features import ring
from models.features.ring import ENTRY, RING_SIZE
from models.kernels.loading import kernel

PLAIN: Final = 1
"""A row that the other form cannot have: its entries are not ordered by time, or it is not of this code."""
SECONDS: Final = 2
PAIRED: Final = 4
HEADER: Final = 6
MAX_PAIRED: Final = 16
_NUMBER: Final = 7
"""Bytes of a time at most."""
_MAX_TIME: Final = 0xFFFF_FFFF * 1000 + 999
Bytes = NDArray[np.uint8]


class Form:
    """Of rows of this dtype, whose first field is the version and whose last one the ring."""

    def __init__(self, row: np.dtype[np.void], version: int) -> None:
        self.row, self.version = row, version
        self.fixed = row.itemsize - RING_SIZE * ENTRY.itemsize
        """Bytes before the ring."""
        n_at = dict(row.fields or {})["n"][1]
        self._sizes = np.array([row.itemsize, self.fixed, n_at, version], np.int32)
        if kernel is not None:
            self._shape = kernel.ffi.from_buffer("int32_t[]", self._sizes)

    def pack(self, rows: NDArray[np.void]) -> list[bytes]:
        """The stored bytes of each row, of the version that it has."""
        if kernel is None:
            return self.pack_by_numpy(rows)
        lib, ffi = kernel
        n, shape = len(rows), self._shape
        out, stops_at = np.empty(lib.rows_room(n, shape), np.uint8), ffi.new("int64_t[]", n)
        room = ffi.from_buffer("uint8_t[]", out)
        lib.rows_pack(ffi.from_buffer("uint8_t[]", rows), n, shape, room, stops_at)
        stops = ffi.unpack(stops_at, n) if n else []
        data = out[: stops[-1] if n else 0].tobytes()
        return [data[a:b] for a, b in zip([0, *stops], stops, strict=False)]

    def read(self, blobs: Sequence[bytes]) -> tuple[NDArray[np.void], int]:
        """(n,) the rows, zeros for b""; and the index of the first blob that is no row, or n."""
        if kernel is None:
            return self.read_by_numpy(blobs)
        lib, ffi = kernel
        rows, n = np.zeros(len(blobs), self.row), len(blobs)
        stops_at = ffi.new("int64_t[]", list(accumulate(map(len, blobs))))
        into = ffi.from_buffer("uint8_t[]", rows)
        return rows, lib.rows_read(b"".join(blobs), stops_at, n, self._shape, into)

    def read_one(self, blob: bytes) -> bytearray | None:
        """The bytes of the row; None where the blob is none."""
        if kernel is None:
            rows, read = self.read_by_numpy([blob])
            return bytearray(rows.tobytes()) if read else None
        row = bytearray(self.row.itemsize)
        into = kernel.ffi.from_buffer("uint8_t[]", row)
        return row if kernel.lib.row_read(blob, len(blob), self._shape, into) else None

    # -- the definitions ------------------------------------------------------------------------

    def pack_by_numpy(self, rows: NDArray[np.void]) -> list[bytes]:
        if not len(rows):
            return []
        n = rows["n"].astype(np.int64)
        count = np.minimum(n, RING_SIZE)
        number = np.arange(RING_SIZE)
        there = number < count[:, None]
        who = np.arange(len(rows))[:, None]
        entries = ring.at(rows, who, (n - count)[:, None] + number)
        time = entries["time"].astype(np.int64) * 1000 + entries["ms"]
        wrong = (entries["ms"] >= 1000) | (entries["action"] > 15) | (entries["flags"] > 15)
        wrong[:, 1:] |= time[:, 1:] < time[:, :-1]
        plain: Any = (wrong & there).any(1, keepdims=True)
        seconds: Any = ~((entries["ms"] > 0) & there).any(1, keepdims=True)
        categories, category = _tables(entries["category"], there)
        kinds, kind = _tables(entries["action"] | entries["flags"] << 4, there)
        tables = np.stack([count, categories[1].sum(1), kinds[1].sum(1)], 1)
        paired: Any = (tables[:, 1:] <= MAX_PAIRED).all(1, keepdims=True)
        form = np.where(plain, PLAIN, SECONDS * seconds | PAIRED * paired)
        version = np.ascontiguousarray(rows["version"][:, None])
        fixed = np.ascontiguousarray(_bytes(rows)[:, 2 : self.fixed])
        some = np.packbits(fixed != 0, axis=1, bitorder="little")
        numbers, used = _as_numbers(np.where(seconds, time // 1000, time), there)
        both, all_ = np.where(paired, category | kind << 4, category), np.True_
        sections: list[tuple[NDArray[Any], Any]] = [
            (version, all_),
            (form.astype(np.uint8), all_),
            (tables.astype(np.uint8), ~plain),
            (some, ~plain),
            (fixed, (fixed != 0) | plain),
            (categories[0], categories[1] & ~plain),
            (kinds[0].astype(np.uint8), kinds[1] & ~plain),
            (entries["item"], there & ~plain),
            (entries["identity"], there & ~plain),
            (both.astype(np.uint8), there & ~plain),
            (kind.astype(np.uint8), there & ~plain & ~paired),
            (numbers, used & ~plain),
            (np.ascontiguousarray(rows["ring"]), there & plain),
        ]
        mask = np.concatenate([_mask(*it) for it in sections], 1)
        data = np.concatenate([_bytes(it[0]) for it in sections], 1)[mask].tobytes()
        stops = np.cumsum(mask.sum(1)).tolist()
        return [data[a:b] for a, b in zip([0, *stops], stops, strict=False)]

    def read_by_numpy(self, blobs: Sequence[bytes]) -> tuple[NDArray[np.void], int]:
        rows = np.zeros(len(blobs), self.row)
        for i, blob in enumerate(blobs):
            if blob:
                try:
                    rows[i] = self._read_one(blob)
                except (ValueError, IndexError):
                    return rows, i
        return rows, len(blobs)

    def _read_one(self, blob: bytes) -> np.void:
        """Errors: ValueError, IndexError where the bytes are no row."""
        row = np.zeros(1, self.row)
        into, form = _bytes(row)[0], blob[2]
        if int.from_bytes(blob[:2], "little") != self.version:
            raise ValueError("another version")
        into[:2] = np.frombuffer(blob, np.uint8, 2)
        rest = np.frombuffer(blob, np.uint8, -1, 3)
        if form == PLAIN:
            into[2 : 2 + len(rest)] = rest
            if len(rest) + 2 != self.fixed + min(int(row["n"][0]), RING_SIZE) * ENTRY.itemsize:
                raise ValueError("another size")
            plain: np.void = row[0]
            return plain
        if form & ~(SECONDS | PAIRED):
            raise ValueError("no form")
        count, categories_n, kinds_n = rest[:3].tolist()
        size, at = self.fixed - 2, HEADER + (self.fixed - 2 + 7) // 8
        bits = np.frombuffer(blob, np.uint8, at - HEADER, HEADER)
        some = np.flatnonzero(np.unpackbits(bits, count=size, bitorder="little"))
        into[2 + some] = np.frombuffer(blob, np.uint8, len(some), at)
        at += len(some)
        n = int(row["n"][0])
        if count != min(n, RING_SIZE):
            raise ValueError("another number of entries")
        entries, columns = np.zeros(count, ENTRY), list[NDArray[Any]]()
        paired = form & PAIRED
        for dtype, length in (
            ("<u4", categories_n), ("u1", kinds_n), ("<u8", count), ("<u4", count), ("u1", count),
            ("u1", 0 if paired else count),
        ):  # fmt: skip
            columns.append(np.frombuffer(blob, dtype, length, at))
            at += columns[-1].nbytes
        categories, kinds, entries["item"], entries["identity"], first, second = columns
        category, kind = (first & 15, first >> 4) if paired else (first, second)
        entries["category"] = categories[category]
        entries["action"], entries["flags"] = kinds[kind] & 15, kinds[kind] >> 4
        unit = 1000 if form & SECONDS else 1
        time = _times(blob[at:], count)
        if (time > _MAX_TIME // unit).any():
            raise ValueError("no time")
        time *= unit
        entries["time"], entries["ms"] = np.divmod(time, 1000)
        row["ring"][0][(n - count + np.arange(count)) % RING_SIZE] = entries
        read: np.void = row[0]
        return read


def _bytes(values: NDArray[Any]) -> Bytes:
    """(n, bytes) of an array of n rows."""
    values = np.ascontiguousarray(values)
    made: Bytes = values.view(np.uint8).reshape(len(values), -1)
    return made


def _mask(values: NDArray[Any], there: Any) -> Mask:
    """(n, bytes) which bytes of `values` are stored; `there`: which of its elements."""
    mask: Mask = np.broadcast_to(there, values.shape).repeat(values.dtype.itemsize, 1)
    return mask


def _tables(values: NDArray[Any], there: Mask) -> tuple[tuple[NDArray[np.uint32], Mask], I64]:
    """(n, 50) the distinct values of each row in ascending order, which of them there are, and of each value
    its place among those."""
    keys = np.where(there, values.astype(np.int64), 1 << 32)
    order = keys.argsort(1, kind="stable")
    ascending = np.take_along_axis(keys, order, 1)
    first = ascending < 1 << 32
    first[:, 1:] &= ascending[:, 1:] != ascending[:, :-1]
    rank = first.cumsum(1) - 1
    tables, place = np.zeros(keys.shape, np.uint32), np.empty_like(keys)
    np.put_along_axis(place, order, rank, 1)
    of, at = np.nonzero(first)
    tables[of, rank[of, at]] = ascending[of, at]
    return (tables, np.arange(RING_SIZE) < first.sum(1, keepdims=True)), place


def _as_numbers(times: I64, there: Mask) -> tuple[Bytes, Mask]:
    """(n, 350) the LEB128 of the first time of each row and of the differences, and which bytes it has."""
    rest = np.where(there, np.diff(times, axis=1, prepend=0), 0).clip(0)
    numbers = np.zeros((*times.shape, _NUMBER), np.uint8)
    used = np.zeros(numbers.shape, np.bool_)
    more = there
    for place in range(_NUMBER):
        used[:, :, place] = more
        numbers[:, :, place] = rest & 127
        rest >>= 7
        more = rest > 0
        numbers[:, :, place] |= more.astype(np.uint8) << 7
    return numbers.reshape(len(times), -1), used.reshape(len(times), -1)


def _times(data: bytes, count: int) -> I64:
    """The opposite of `_as_numbers` for one row. Errors: ValueError."""
    values = np.frombuffer(data, np.uint8).astype(np.int64)
    last = np.flatnonzero(values < 128)
    if len(last) != count or (count and last[-1] != len(values) - 1) or (not count and data):
        raise ValueError("another number of times")
    if not count:
        return np.zeros(0, np.int64)
    start = np.concatenate([[0], last[:-1] + 1])
    if (last - start >= _NUMBER).any():
        raise ValueError("no time")
    place = np.arange(len(values)) - np.repeat(start, last - start + 1)
    times: I64 = np.cumsum(np.add.reduceat((values & 127) << 7 * place, start))
    return times
