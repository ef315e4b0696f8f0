"""The catalogue in process: one row ("slot") an item, contiguous columns.

Slots are numbers of this process alone, in the order it met the items: nothing that is served may
depend on them. Slot 0 is "no item". A slot may be allocated before its item is known (the tables
speak of it first); then it is not `known` and never eligible.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import content
from schemas.identity import category_hash, item_hash
from schemas.item import Item

Slots = NDArray[np.int32]
Hashes = NDArray[np.uint64]

ALWAYS: Final = np.iinfo(np.int64).max
NEVER: Final = np.iinfo(np.int64).min
_COLUMNS: Final = (
    ("hash", np.uint64, ()),
    ("category", np.int32, ()),
    ("owner", np.int32, ()),
    ("published", np.int64, ()),
    ("until", np.int64, ()),
    ("known", np.bool_, ()),
    ("vectors", np.float32, (content.DIM,)),
)


class Names:
    """Texts as small numbers; 0 is ""."""

    def __init__(self) -> None:
        self.texts = [""]
        self._numbers = {"": 0}

    def number(self, text: str) -> int:
        """The number of `text`, a new one where it has none."""
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found

    def find(self, text: str) -> int | None:
        return self._numbers.get(text)


class ItemTable:
    """Columns of length `capacity`; those of a slot that is not `known` mean nothing.

    `until`: ms from which the item is not to be shown, 0 while it is not available. `published`: ms
    before which it is not, `NEVER` where nobody said. `generation` counts changes; `positions[p]`
    is the next offset of the topic `items` that is not in the table yet.
    """

    hash: Hashes
    category: Slots
    owner: Slots
    published: NDArray[np.int64]
    until: NDArray[np.int64]
    known: NDArray[np.bool_]
    vectors: content.Vector

    def __init__(self, capacity: int = 1024) -> None:
        self.size = 1
        self.count = 0
        self.generation = 0
        self.positions: dict[int, int] = {}
        self.ids = [""]
        self.titles = [""]
        self.every_category: list[tuple[int, ...]] = [()]
        self.categories, self.owners = Names(), Names()
        self.category_numbers = {0: 0}
        """Category hash -> number of the category."""
        self.changed: set[int] = set()
        """Slots put or dropped since an index last took them."""
        self._slots: dict[int, int] = {}
        self._kinds = (-1, 0)
        for name, dtype, shape in _COLUMNS:
            setattr(self, name, np.zeros((capacity, *shape), dtype))
        self._spread()

    @property
    def version(self) -> str:
        """The positions in `items` that this table holds, as ``10.0.7.2``."""
        return ".".join(str(self.positions[p]) for p in sorted(self.positions)) or "0"

    @property
    def primary_categories(self) -> int:
        """How many kinds the cap tells apart: primary categories of known items, and each item
        without one for itself."""
        if self._kinds[0] != self.generation:
            numbers = self.category[: self.size][self.known[: self.size]]
            kinds = len(np.unique(numbers[numbers != 0])) + int((numbers == 0).sum())
            self._kinds = (self.generation, kinds)
        return self._kinds[1]

    def put(self, item: Item) -> int:
        """The item is now this. Answers its slot."""
        slot = self.slot(item_hash(item.item_id))
        categories = content.categories(item)
        primary = categories[0] if categories else ""
        self.count += not self.known[slot]
        self.known[slot] = True
        self.ids[slot], self.titles[slot] = item.item_id, item.title
        self.every_category[slot] = tuple(self._category(name) for name in categories)
        self.category[slot] = self._category(primary)
        self.owner[slot] = self.owners.number(item.owner_id)
        self.published[slot] = NEVER if item.published_at is None else item.published_at
        expires = ALWAYS if item.expires_at is None else item.expires_at
        self.until[slot] = expires if item.available else 0
        self.vectors[slot] = content.vector(item)
        self._touch(slot)
        return slot

    def drop(self, item_id: str) -> None:
        """The item is gone."""
        slot = self._slots.get(item_hash(item_id))
        if slot is None or not self.known[slot]:
            return
        self.known[slot], self.until[slot] = False, 0
        self.vectors[slot] = 0
        self.count -= 1
        self._touch(slot)

    def held(self) -> list[str]:
        """The ids of all known items."""
        return [self.ids[slot] for slot in np.flatnonzero(self.known[: self.size]).tolist()]

    def lookup(self, item_id: str) -> tuple[bool, str]:
        """Whether the item is known, and its primary category ("" where it has none)."""
        slot = self.find(item_id)
        return (True, self.categories.texts[self.category[slot]]) if slot else (False, "")

    def find(self, item_id: str) -> int:
        """The slot of a known item, else 0."""
        slot = self._slots.get(item_hash(item_id), 0)
        return slot if self.known[slot] else 0

    def slot(self, item: int) -> int:
        """The slot of an item's hash, allocated where there is none."""
        found = self._slots.get(item)
        return self._allocate(item) if found is None else found

    def locate(self, hashes: Hashes) -> Slots:
        """(n,) the slot of each hash, 0 where there is none."""
        slots: Slots = self._direct[(hashes & self._mask).astype(np.intp)]
        missed = np.flatnonzero(self.hash[slots] != hashes)
        if len(missed):  # another item stands at its place, or none
            slots[missed] = [self._slots.get(h, 0) for h in hashes[missed].tolist()]
        return slots

    def locate_all(self, hashes: Hashes) -> Slots:
        """(n,) the slot of each hash, allocated where there is none."""
        slots = self.locate(hashes)
        missed = np.flatnonzero(slots == 0)
        if len(missed):
            slots[missed] = [self.slot(h) for h in hashes[missed].tolist()]
        return slots

    def _category(self, name: str) -> int:
        number = self.categories.number(name)
        self.category_numbers[category_hash(name)] = number
        return number

    def _touch(self, slot: int) -> None:
        self.generation += 1
        self.changed.add(slot)

    def _allocate(self, item: int) -> int:
        if self.size == len(self.hash):
            self._grow()
        slot = self.size
        self.size += 1
        self.hash[slot] = item
        self._slots[item] = slot
        self.ids.append("")
        self.titles.append("")
        self.every_category.append(())
        place = item & int(self._mask)
        if not self._direct[place]:
            self._direct[place] = slot
        return slot

    def _grow(self) -> None:
        for name, _, _ in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._spread()

    def _spread(self) -> None:
        # most hashes find their slot at their own place; `_slots` knows the few that share one
        places = 8 << (len(self.hash) - 1).bit_length()
        self._mask = np.uint64(places - 1)
        self._direct = np.zeros(places, np.int32)
        held = self.hash[1 : self.size]
        self._direct[(held & self._mask).astype(np.intp)] = np.arange(1, self.size, dtype=np.int32)
