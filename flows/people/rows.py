"""A write-through cache of people's rows, valid because only the owner of a partition commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.arrays import I64, U64
from models.features.registry import ROW, ForeignRow, read_rows
from models.slots import SlotTable
from schemas.keys import Keyspace

RAW: Final = np.dtype((np.void, ROW.itemsize))
"""A row as bytes: as fields, an array of 700 rows takes a hundred times longer to index."""
Fetch = Callable[[list[bytes]], Sequence[bytes | None]]
_xxh = xxhash.xxh3_64_intdigest


class UnreadableRows(ValueError):
    """Stored rows that cannot be read: partition -> why."""

    def __init__(self, faults: Mapping[int, ForeignRow]) -> None:
        super().__init__("stored rows cannot be read")
        self.faults = faults


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
        held = self._held
        if not all(name in held for name in names):
            read = list(dict.fromkeys([*names, *self._wanted]))
            self._wanted = []
            held.update(zip(read, self._fetch(read), strict=True))
        found = [held[name] for name in names]
        for name in names:
            held.pop(name, None)
        return found


class Rows:
    """The rows of all partitions of a worker in one array; a person's index in it is their slot.

    Slots are found by the partition's number and two hashes of the pseudonym. A partition that begins anew
    gets a new number: what it had is found no more.
    """

    def __init__(self, fetch: Fetch, limit: int, keyspace: Keyspace) -> None:
        self._fetch, self._limit, self._keyspace = fetch, limit, keyspace
        self._numbers: dict[int, int] = {}
        self._begun = 0
        self._table = SlotTable()
        self._clear()
        self.array: NDArray[np.void] = np.zeros(1024, ROW)

    def _clear(self) -> None:
        self._table.clear()
        self.keys: list[bytes] = []
        """By slot, the key of the row."""
        self.people: list[str] = []
        """By slot, the pseudonym."""
        self.partitions: list[int] = []
        """By slot."""

    def begin(self, partition: int) -> None:
        """Has the partition's rows read from the store again."""
        self._begun += 1
        self._numbers[partition] = self._begun

    def number(self, partition: int) -> int:
        """Of the partition, for `slots`."""
        return self._numbers[partition]

    def make_room(self) -> None:
        """Empties the cache above its limit. Call it between reads only, when all rows are committed."""
        if len(self.keys) > self._limit * len(self._numbers):
            self._clear()

    def slots(
        self,
        partitions: Sequence[int],
        counts: Sequence[int],
        person: U64,
        person2: U64,
        text: Callable[[int], str],
    ) -> I64:
        """(n,) the slot of the person of each record; missing rows are read from the store in one call.

        The records lie by partition: `counts` of each. `person`, `person2`: the hashes of the pseudonyms;
        `text(i)`: that of record i. Errors: `UnreadableRows`; the rows of other partitions are there then.
        """
        numbers = np.array([self._numbers[p] for p in partitions], np.int64).repeat(counts)
        found = self._table.find(numbers, person, person2)
        if len(found) and found.min() < 0:
            missing = (found < 0).nonzero()[0]
            named = zip(
                numbers[missing].tolist(),
                person[missing].tolist(),
                person2[missing].tolist(),
                strict=True,
            )
            first: dict[tuple[int, int, int], int] = {}
            for row, name in zip(missing.tolist(), named, strict=True):
                first.setdefault(name, row)
            at = np.fromiter(first.values(), np.int64, len(first))
            whose = np.array(partitions, np.int64).repeat(counts)[at].tolist()
            people = list(zip(whose, map(text, at.tolist()), strict=True))
            self._load(people, numbers[at], person[at], person2[at])
            found = self._table.find(numbers, person, person2)
        return found

    def slot(self, partition: int, person: str) -> int:
        """The slot of one person. Errors: those of `slots`."""
        name = person.encode()
        one, two = np.array([_xxh(name)], np.uint64), np.array([_xxh(name, 1)], np.uint64)
        return int(self.slots([partition], [1], one, two, lambda _: person)[0])

    def _load(
        self, people: Sequence[tuple[int, str]], numbers: I64, person: U64, person2: U64
    ) -> None:
        """Reads rows: `people` as (partition, pseudonym), with their hashes."""
        prefixes = {p: self._keyspace.row(p, "") for p in self._numbers}
        names = [prefixes[p] + person.encode() for p, person in people]
        held = self._fetch(names)
        try:
            rows = read_rows(held)
        except ForeignRow:
            faults = _faults(people, held)
            good = [i for i, (p, _) in enumerate(people) if p not in faults]
            self._add([people[i] for i in good], [names[i] for i in good],
                      numbers[good], person[good], person2[good],
                      read_rows([held[i] for i in good]))  # fmt: skip
            raise UnreadableRows(faults) from None
        self._add(people, names, numbers, person, person2, rows)

    def _add(
        self,
        people: Sequence[tuple[int, str]],
        names: Sequence[bytes],
        numbers: I64,
        person: U64,
        person2: U64,
        rows: NDArray[np.void],
    ) -> None:
        start, end = len(self.keys), len(self.keys) + len(people)
        while end > len(self.array):
            self.array = np.concatenate([self.array, np.zeros(len(self.array), ROW)])
        self.array.view(RAW)[start:end] = rows.view(RAW)
        self.keys += names
        self.people += [it for _, it in people]
        self.partitions += [p for p, _ in people]
        self._table.add(numbers, person, person2, np.arange(start, end))

    def take(self, slots: I64) -> NDArray[np.void]:
        """A copy of these rows."""
        return self.array.view(RAW)[slots].view(ROW)

    def put(self, slots: I64, rows: NDArray[np.void]) -> None:
        self.array.view(RAW)[slots] = rows.view(RAW)


class PartitionRows:
    """The rows of one partition, by the pseudonyms of its people."""

    def __init__(self, rows: Rows, partition: int) -> None:
        self._rows, self._partition = rows, partition
        self.take, self.put = rows.take, rows.put

    def slots(self, people: Sequence[str]) -> I64:
        """The slot of each person (n,). Errors: those of `Rows.slots`."""
        return np.array([self._rows.slot(self._partition, it) for it in people], np.int64)

    def person(self, slot: int) -> str:
        return self._rows.people[slot]


def _faults(
    people: Sequence[tuple[int, str]], held: Sequence[bytes | None]
) -> dict[int, ForeignRow]:
    """Why the rows of a partition cannot be read, of those of which one cannot."""
    found: dict[int, ForeignRow] = {}
    for (partition, _), blob in zip(people, held, strict=True):
        try:
            read_rows([blob])
        except ForeignRow as error:
            found.setdefault(partition, error)
    return found
