"""Texts of items as small numbers: categories and groups with their hashes, owners, types and tags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import open_addressing
from schemas.identity import category_hash, group_hash, trimmed

Slots = NDArray[np.int32]
_NO_SLOTS: Final[Slots] = np.empty(0, np.int32)


class Vocabulary:
    """Texts as small numbers; 0 is ""."""

    def __init__(self) -> None:
        self.texts = [""]
        self._numbers = {"": 0}

    def number(self, text: str) -> int:
        """The number of `text`; a new one where it has none."""
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found

    def find(self, text: str) -> int | None:
        """The number of `text`; None where it has none."""
        return self._numbers.get(text)

    def found(self, texts: Iterable[str]) -> set[int]:
        """The numbers of those texts, `trimmed`, that have one; "" has none."""
        return {number for text in texts if (number := self._numbers.get(trimmed(text)))}


class Groups(Vocabulary):
    """Groups as small numbers, and the slots of their variants; 0 is no group.

    False while no item has a group. By number: `hashes` are `schemas.identity.group_hash`, `firsts` the slots
    with the least hash (0: none), `sizes` the numbers of variants. `places` has the numbers by hash
    (`models.open_addressing`), at most half of it. `layout` rises where another array takes the place of one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hashes = np.zeros(64, np.uint64)
        self.firsts = np.zeros(64, np.int32)
        self.sizes = np.zeros(64, np.int32)
        self.places = np.zeros(128, np.int32)
        self.layout = 0
        self._members: dict[int, Slots] = {}
        """Number of a group -> the slots of its items in the catalogue, by hash."""

    def __bool__(self) -> bool:
        return bool(self._members)

    def number(self, text: str) -> int:
        number = super().number(text)
        if number == len(self.hashes):
            for name in ("hashes", "firsts", "sizes"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
            self.places = open_addressing.made(self.hashes[:number], 2 * len(self.hashes))
            self.layout += 1
        if number and not self.hashes[number]:
            value = group_hash(text)
            self.hashes[number] = value
            open_addressing.put(self.places, value, number)
        return number

    @property
    def places_mask(self) -> int:
        """A hash lies at its place, ``hash & places_mask``, or after it."""
        return len(self.places) - 1

    def find_hash(self, value: int) -> int:
        """The number of the group with this hash; 0 where there is none."""
        return open_addressing.find(self.places, self.hashes, value)

    def slots(self, group: int) -> Slots:
        """(n,) the slots of its variants, by hash; empty for number 0."""
        return self._members.get(group, _NO_SLOTS)

    def add(self, group: int, slot: int, hashes: NDArray[np.uint64]) -> Slots:
        """Adds the item at `slot`; `hashes` are those of all slots. Gives the slots after it."""
        before = self.slots(group)
        place = int(np.searchsorted(hashes[before], hashes[slot]))
        return self._set(group, np.insert(before, place, slot))

    def remove(self, group: int, slot: int) -> Slots:
        """Removes the item at `slot`. Gives the slots after it."""
        before = self._members[group]
        return self._set(group, before[before != slot])

    def _set(self, group: int, members: Slots) -> Slots:
        if len(members):
            self._members[group] = members
        else:
            del self._members[group]
        self.sizes[group] = len(members)
        self.firsts[group] = members[0] if len(members) else 0
        return members


class Categories(Vocabulary):
    """Categories as small numbers; 0 is none. `hashes`, by number, are `schemas.identity.category_hash`.

    From a hash to a number: `keys` (a power of two,) holds hashes, 0 where a place is free, and `values` the
    number of each. A hash lies at its place (``hash & mask``) or after it; of two categories with one hash
    the one named last has it. `layout` rises where another array takes the place of one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hashes = np.zeros(64, np.uint32)
        self.layout = 0
        self._make_keys(128)

    @property
    def mask(self) -> int:
        return len(self.keys) - 1

    def number(self, text: str) -> int:
        number = super().number(text)
        if number == len(self.hashes):
            self.hashes = np.concatenate([self.hashes, np.zeros_like(self.hashes)])
            self.layout += 1
            held, values = self.keys[self.keys != 0], self.values[self.keys != 0]
            self._make_keys(2 * len(self.hashes))
            for key, value in zip(held.tolist(), values.tolist(), strict=True):
                self._put(key, value)
        if number:
            if not self.hashes[number]:
                self.hashes[number] = category_hash(text)
            self._put(self.hashes.item(number), number)
        return number

    def numbers_of(self, hashes: NDArray[np.uint32]) -> NDArray[np.int32]:
        """(n,) the number of each hash; 0 where it has none."""
        numbers = [self.values.item(self._place(value)) for value in hashes.tolist()]
        return np.array(numbers, np.int32)

    def _make_keys(self, size: int) -> None:
        self.keys, self.values = np.zeros(size, np.uint32), np.zeros(size, np.int32)

    def _put(self, key: int, number: int) -> None:
        at = self._place(key)
        self.keys[at], self.values[at] = key, number

    def _place(self, key: int) -> int:
        """Where the hash lies, or the free place where it belongs."""
        at, mask = key & self.mask, self.mask
        while (held := self.keys.item(at)) and held != key:
            at = at + 1 & mask
        return at
