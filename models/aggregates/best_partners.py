"""The best partners of items by the compiled kernel; `models.aggregates.covisit` has the definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from models.aggregates.pair_sums import Level
from models.arrays import F64, I64, U64
from models.kernels.loading import Kernel

SCORE_BYTES: Final = 32
BEST_BYTES: Final = 16


class Best(NamedTuple):
    """Lists of partners, one after the other and each best first: dense numbers (m,) of the partners, the
    scores, the sums of (item, partner) and of (partner, item), and how many each list has (n,)."""

    partners: I64
    scores: F64
    forward: F64
    backward: F64
    many: I64


class BestPartners:
    """Finds them in these levels, with the sums under ``LAG_POWERS[power]``. `weight`: of the backward sums;
    `most`: partners of an item."""

    def __init__(
        self,
        compiled: Kernel,
        levels: Sequence[Level],
        hashes: U64,
        power: int,
        weight: float,
        most: int,
    ) -> None:
        self._compiled, self._hashes, self._weight, self._most = compiled, hashes, weight, most
        ffi, room = compiled.ffi, len(hashes)
        sums = [level.rows.sums[power] for level in levels]
        self._held = [
            [ffi.from_buffer(f"{kind}[]", column) for column in columns]
            for kind, columns in (
                ("uint64_t", [level.rows.keys for level in levels]),
                ("double", sums),
                ("uint32_t", [level.order for level in levels]),
                ("uint32_t", [level.seconds for level in levels]),
                ("int64_t", [level.starts for level in levels]),
            )
        ]
        kinds = ("uint64_t", "double", "uint32_t", "uint32_t", "int64_t")
        self._levels: list[Any] = [
            ffi.new(f"{kind} *[]", its) for kind, its in zip(kinds, self._held, strict=True)
        ]
        self._levels += [
            ffi.new("size_t[]", [len(level.rows.keys) for level in levels]),
            ffi.new("size_t[]", [len(level.seconds) for level in levels]),
            len(levels),
        ]
        # pages of these are touched where there are partners
        self._scratch = [
            ffi.from_buffer("uint32_t[]", np.zeros(room, np.uint32)),
            ffi.from_buffer("uint32_t[]", np.empty(room, np.uint32)),
            ffi.from_buffer("uint8_t[]", np.empty(room * SCORE_BYTES, np.uint8)),
            ffi.from_buffer("uint8_t[]", np.empty(most * BEST_BYTES, np.uint8)),
        ]

    def of(self, items: I64) -> Best:
        """The best partners of `items` (n,), dense numbers below those of `hashes`."""
        n, most, pointer = len(items), self._most, self._compiled.ffi.from_buffer
        partners, count = np.empty((n, most), np.int64), np.empty(n, np.int64)
        numbers = [np.empty((n, most)) for _ in range(3)]
        self._compiled.lib.best_partners(
            *self._levels,
            pointer("int64_t[]", np.ascontiguousarray(items, np.int64)),
            n,
            pointer("uint64_t[]", self._hashes),
            self._weight,
            most,
            *self._scratch,
            pointer("int64_t[]", partners),
            *(pointer("double[]", column) for column in numbers),
            pointer("int64_t[]", count),
        )
        filled = np.arange(most) < count[:, None]
        scores, forward, backward = (column[filled] for column in numbers)
        return Best(partners[filled], scores, forward, backward, count)
