"""The overflows of a partition's people (`models.features.overflow`): a write-through cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.people.rows import Fetch, PartitionRows
from models.features import days, registry
from models.features.overflow import Overflow
from schemas.keys import Keyspace
from schemas.state.write import Write

MAX_CACHED_ENTRIES: Final = 1_000_000
"""Some 100 B each."""


class Overflows:
    """Of most people there is none, as the rows say. `rows`: the partition's."""

    def __init__(
        self, partition: int, fetch: Fetch, rows: PartitionRows, keyspace: Keyspace
    ) -> None:
        self._fetch, self._rows = fetch, rows
        self._prefix = keyspace.overflow(partition, "")
        self._held: dict[str, Overflow] = {}
        self._changed: dict[str, Overflow] = {}
        self._entries = 0

    def make_room(self) -> None:
        """Empties the cache above its limit. Call it between batches only, when all of it is committed."""
        if self._entries > MAX_CACHED_ENTRIES:
            self._held.clear()
            self._entries = 0

    def of(self, slots: Sequence[int]) -> dict[int, Overflow]:
        """By slot, the overflows of these people, who all have one. Errors: ValueError."""
        people = [self._rows.person(slot) for slot in slots]
        self._load([person for person in people if person not in self._held])
        return dict(zip(slots, [self._held[person] for person in people], strict=True))

    def put(self, overflow: Mapping[int, Overflow]) -> None:
        """Takes, by slot, the changed ones of those that `of` gave, and new ones."""
        for slot, held in overflow.items():
            if held.changed:
                person = self._rows.person(slot)
                self._held[person] = self._changed[person] = held

    def keep(self, slot: int, rows: NDArray[np.void], gone: NDArray[np.void]) -> None:
        """Keeps what left one person's list by a merge, `gone` (k,). Changes the flags of `rows` (1,)."""
        has = rows["flags"][0] & registry.OVERFLOW
        overflow = {0: self.of([slot])[slot]} if has else {}
        days.keep(rows, np.zeros(len(gone), np.int64), gone, overflow)
        registry.mark(rows, overflow)
        if overflow:
            self.put({slot: overflow[0]})

    def forget(self, person: str) -> None:
        """Of a person whose record starts anew; the caller clears the key."""
        self._held.pop(person, None)
        self._changed.pop(person, None)

    def store(self, write: Write) -> None:
        """Adds what the batch changed to the write."""
        for person, held in self._changed.items():
            key = self._prefix + person.encode()
            whole, data, added = held.changes()
            self._entries += added
            if not whole:
                write.append(key, data)
            elif data:
                write.values[key] = data
            else:
                write.deleted.append(key)
        self._changed.clear()

    def _load(self, people: list[str]) -> None:
        names = [self._prefix + person.encode() for person in people]
        for person, data in zip(people, self._fetch(names) if names else [], strict=True):
            self._held[person] = Overflow(data or b"")
            self._entries += len(data or b"") // 4
