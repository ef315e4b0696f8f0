"""A write-through cache of people's rows, valid because only the owner of a partition commits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.features.registry import ROW, pack_rows, read_rows
from schemas.keys import Keyspace

_RAW: Final = np.dtype((np.void, ROW.itemsize))
Fetch = Callable[[list[bytes]], Sequence[bytes | None]]


class JointFetch:
    """A `Fetch` that reads what will be wanted later with what is wanted now, in one call."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._wanted: list[bytes] = []
        self._held: dict[bytes, bytes | None] = {}

    def want(self, names: list[bytes]) -> None:
        """Has the next call read these keys, too; what an earlier one read and nobody took is forgotten."""
        self._wanted = names
        self._held.clear()

    def __call__(self, names: list[bytes]) -> Sequence[bytes | None]:
        if self._held and all(name in self._held for name in names):
            return [self._held.pop(name) for name in names]
        wanted, self._wanted = self._wanted, []
        values = self._fetch([*names, *wanted])
        self._held = dict(zip(wanted, values[len(names) :], strict=True))
        return values[: len(names)]


class Rows:
    """Rows of one partition in one array; a person's index in it is their slot."""

    def __init__(self, partition: int, fetch: Fetch, limit: int, keyspace: Keyspace) -> None:
        self._fetch, self._limit = fetch, limit
        self._prefix = keyspace.row(partition, "")
        self._slots: dict[str, int] = {}
        self._keys: list[bytes] = []
        self._people: list[str] = []
        self._array = np.zeros(1024, ROW)

    def make_room(self) -> None:
        """Empties the cache above its limit. Call it between batches only, when all rows are committed."""
        if len(self._slots) > self._limit:
            self._slots.clear()
            self._keys.clear()
            self._people.clear()

    def slots(self, people: Sequence[str]) -> NDArray[np.int64]:
        """The slot of each person (n,); missing rows are read from the store in one call."""
        try:
            return np.array([self._slots[person] for person in people], np.int64)
        except KeyError:
            self._load([p for p in dict.fromkeys(people) if p not in self._slots])
            return np.array([self._slots[person] for person in people], np.int64)

    def _load(self, people: list[str]) -> None:
        names = [self._prefix + person.encode() for person in people]
        start = len(self._keys)
        while start + len(people) > len(self._array):
            self._array = np.concatenate([self._array, np.zeros(len(self._array), ROW)])
        self._array[start : start + len(people)] = read_rows(self._fetch(names))
        self._keys += names
        self._people += people
        self._slots.update(zip(people, range(start, start + len(people)), strict=True))

    def take(self, slots: NDArray[np.int64]) -> NDArray[np.void]:
        """A copy of these rows."""
        # as fields, an array of 700 rows takes a hundred times longer to index
        return self._array.view(_RAW)[slots].view(ROW)

    def put(self, slots: NDArray[np.int64], rows: NDArray[np.void]) -> None:
        self._array.view(_RAW)[slots] = rows.view(_RAW)

    def person(self, slot: int) -> str:
        return self._people[slot]

    def packed(self, slots: NDArray[np.int64], rows: NDArray[np.void]) -> dict[bytes, bytes]:
        """Key -> stored bytes of these rows."""
        return dict(zip([self._keys[s] for s in slots.tolist()], pack_rows(rows), strict=True))
