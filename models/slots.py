"""Slots: the index of a person's row in the array of a cache."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.arrays import I64, U64
from models.kernels.loading import Kernel, kernel

ENTRY_BYTES: Final = 32
FIRST_ENTRIES: Final = 1_024


class SlotTable:
    """(partition, person) -> slot. A person is named by 128 bits, `models.records.RecordColumns.person` and
    `person2`; no hash stands for them. By the kernel an entry takes 64 to 128 B; without it, a dictionary is
    the definition."""

    def __init__(self, compiled: Kernel | None = kernel) -> None:
        self._compiled = compiled
        self.clear()

    def clear(self) -> None:
        self._held: dict[tuple[int, int, int], int] = {}
        self._used = 0
        if self._compiled is not None:
            self._make(FIRST_ENTRIES)

    def __len__(self) -> int:
        return self._used

    def find(self, partition: I64, person: U64, person2: U64) -> I64:
        """(n,) the slot of each of n people, -1 where there is none."""
        if self._compiled is None:
            held, names = self._held, _names(partition, person, person2)
            return np.array([held.get(name, -1) for name in names], np.int64)
        slots = np.empty(len(person), np.int64)
        self._compiled.lib.slots_find(*self._arguments(partition, person, person2, slots))
        return slots

    def add(self, partition: I64, person: U64, person2: U64, slots: I64) -> None:
        """Gives n people these slots, from 0; of two for one person the later holds."""
        if self._compiled is None:
            names = _names(partition, person, person2)
            self._held.update(zip(names, slots.tolist(), strict=True))
            self._used = len(self._held)
            return
        if (need := self._used + len(person)) * 2 > self._entries:
            size, old = self._entries, self._at
            self._make(need * 4)
            self._compiled.lib.slots_copy(old, size, self._at, self._entries - 1)
        arguments = self._arguments(partition, person, person2, slots)
        self._used += self._compiled.lib.slots_add(*arguments)

    def _make(self, least: int) -> None:
        assert self._compiled is not None
        self._entries = 1 << (least - 1).bit_length()
        table = np.zeros(self._entries * ENTRY_BYTES, np.uint8)
        self._at = self._compiled.ffi.from_buffer("uint8_t[]", table)

    def _arguments(self, partition: I64, person: U64, person2: U64, slots: I64) -> tuple[Any, ...]:
        assert self._compiled is not None
        pointer, n = self._compiled.ffi.from_buffer, len(person)
        if not n == len(partition) == len(person2) == len(slots):
            raise ValueError("columns of one length")
        return (
            self._at,
            self._entries - 1,
            pointer("int64_t[]", partition),
            pointer("uint64_t[]", person),
            pointer("uint64_t[]", person2),
            n,
            pointer("int64_t[]", slots),
        )


def _names(partition: I64, person: U64, person2: U64) -> Any:
    return zip(partition.tolist(), person.tolist(), person2.tolist(), strict=True)
