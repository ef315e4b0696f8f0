"""The catalogue in process: one row ("slot") an item, contiguous columns.

Slots are numbers of this process alone, in the order in which it read the items: no answer may depend on
them. Slot 0 is "no item". A slot may be allocated before its item is read (the tables may name it first);
until then it is not `in_catalogue` and never eligible.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.release import content
from schemas.identity import category_hash, item_hash
from schemas.items import Item

Slots = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

NO_EXPIRY: Final = np.iinfo(np.int64).max
UNDATED: Final = np.iinfo(np.int64).min
_COLUMNS: Final = (
    ("hash", np.uint64, ()),
    ("category", np.int32, ()),
    ("owner", np.int32, ()),
    ("type", np.int32, ()),
    ("published", np.int64, ()),
    ("until", np.int64, ()),
    ("in_catalogue", np.bool_, ()),
    ("vectors", np.float32, (content.DIM,)),
)


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


class ItemTable:
    """Columns of length `capacity`; those of a slot that is not `in_catalogue` are undefined.

    `until`: Unix ms from which the item is not to be shown, 0 while it is not available. `published`: Unix ms
    before which it is not to be shown, `UNDATED` where none is given. `revision` counts changes;
    `positions[p]` is the offset of the topic `items` that the table takes next.
    """

    hash: Hashes
    category: Slots
    owner: Slots
    type: Slots
    published: NDArray[np.int64]
    until: NDArray[np.int64]
    in_catalogue: NDArray[np.bool_]
    vectors: content.Vector

    def __init__(self, capacity: int = 1024) -> None:
        self.size = 1
        self.count = 0
        self.revision = 0
        self.positions: dict[int, int] = {}
        self.ids = [""]
        self.titles = [""]
        self.groups = [""]
        self.every_category: list[tuple[int, ...]] = [()]
        self.every_tag: list[tuple[int, ...]] = [()]
        self.categories, self.owners, self.types, self.tags = (
            Vocabulary(),
            Vocabulary(),
            Vocabulary(),
            Vocabulary(),
        )
        self.category_numbers = {0: 0}
        """Category hash -> number of the category."""
        self._journal: list[int] = []
        """Slot of each change, oldest first; the last change has the number `revision`."""
        self._slots: dict[int, int] = {}
        self._newest, self._ages = np.empty(0, np.int32), np.empty(0, np.int64)
        self._sorted = 0
        """The revision that `_newest` is of."""
        for name, dtype, shape in _COLUMNS:
            setattr(self, name, np.zeros((capacity, *shape), dtype))
        self._rehash()

    @property
    def version(self) -> str:
        """The positions in `items` up to which this table holds it, as ``10.0.7.2``."""
        return ".".join(str(self.positions[p]) for p in sorted(self.positions)) or "0"

    def changed(self, since: int) -> Slots:
        """Slots put or dropped since `revision` was `since`, each once, ascending; all slots where the
        journal does not go back so far."""
        first = self.revision - len(self._journal)
        if since < first:
            return np.arange(1, self.size, dtype=np.int32)
        return np.unique(np.array(self._journal[since - first :], np.int32))

    def published_between(self, after: int, until: int) -> Slots:
        """Slots of items published after `after` and no later than `until` (Unix ms), the latest first, then
        by hash; items without a date are left out."""
        if self._sorted != self.revision:
            slots = np.flatnonzero(self.in_catalogue & (self.published != UNDATED))
            order = np.lexsort((self.hash[slots], -self.published[slots]))
            self._newest, self._sorted = slots[order].astype(np.int32), self.revision
            self._ages = -self.published[self._newest]
        first, end = np.searchsorted(self._ages, (-until, -after))
        return self._newest[first:end]

    def put(self, item: Item) -> int:
        """Adds or replaces the item. Gives its slot."""
        slot = self.slot(item_hash(item.item_id))
        categories = content.categories(item)
        primary = categories[0] if categories else ""
        self.count += not self.in_catalogue[slot]
        self.in_catalogue[slot] = True
        self.ids[slot], self.titles[slot] = item.item_id, item.title
        self.groups[slot] = item.group_id
        self.every_category[slot] = tuple(self._category(name) for name in categories)
        self.every_tag[slot] = tuple(self.tags.number(tag) for tag in item.tags)
        self.category[slot] = self._category(primary)
        self.owner[slot] = self.owners.number(item.owner_id)
        self.type[slot] = self.types.number(item.type)
        self.published[slot] = UNDATED if item.published_at is None else item.published_at
        expires = NO_EXPIRY if item.expires_at is None else item.expires_at
        self.until[slot] = expires if item.available else 0
        self.vectors[slot] = content.vector(item)
        self._record_change(slot)
        return slot

    def drop(self, item_id: str) -> None:
        """Removes the item; its slot stays allocated."""
        slot = self._slots.get(item_hash(item_id))
        if slot is None or not self.in_catalogue[slot]:
            return
        self.in_catalogue[slot], self.until[slot] = False, 0
        self.vectors[slot] = 0
        self.count -= 1
        self._record_change(slot)

    def item_ids(self) -> list[str]:
        """The ids of all items in the catalogue."""
        return [self.ids[slot] for slot in np.flatnonzero(self.in_catalogue[: self.size]).tolist()]

    def lookup(self, item_id: str) -> tuple[bool, str, str]:
        """Whether the item is in the catalogue, its primary category and its group ("" where it has none)."""
        slot = self.find(item_id)
        if not slot:
            return False, "", ""
        return True, self.categories.texts[self.category[slot]], self.groups[slot]

    def find(self, item_id: str) -> int:
        """The slot of an item in the catalogue, else 0."""
        slot = self._slots.get(item_hash(item_id), 0)
        return slot if self.in_catalogue[slot] else 0

    def slot(self, item: int) -> int:
        """The slot of an item's hash; a new one where it has none."""
        found = self._slots.get(item)
        return self._allocate(item) if found is None else found

    def locate(self, hashes: Hashes) -> Slots:
        """(n,) the slot of each hash; 0 where it has none."""
        slots: Slots = self._direct[(hashes & self._mask).astype(np.intp)]
        missed = np.flatnonzero(self.hash[slots] != hashes)
        if len(missed):  # their place holds another item or none
            slots[missed] = [self._slots.get(h, 0) for h in hashes[missed].tolist()]
        return slots

    def locate_all(self, hashes: Hashes) -> Slots:
        """(n,) the slot of each hash; a new one where it has none."""
        slots = self.locate(hashes)
        missed = np.flatnonzero(slots == 0)
        if len(missed):
            slots[missed] = [self.slot(h) for h in hashes[missed].tolist()]
        return slots

    def _category(self, name: str) -> int:
        number = self.categories.number(name)
        self.category_numbers[category_hash(name)] = number
        return number

    def _record_change(self, slot: int) -> None:
        self.revision += 1
        self._journal.append(slot)
        if len(self._journal) > 2 * len(self.hash):
            del self._journal[: len(self.hash)]  # a reader further behind takes all slots again

    def _allocate(self, item: int) -> int:
        if self.size == len(self.hash):
            self._grow()
        slot = self.size
        self.size += 1
        self.hash[slot] = item
        self._slots[item] = slot
        self.ids.append("")
        self.titles.append("")
        self.groups.append("")
        self.every_category.append(())
        self.every_tag.append(())
        place = item & int(self._mask)
        if not self._direct[place]:
            self._direct[place] = slot
        return slot

    def _grow(self) -> None:
        for name, _, _ in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self._rehash()

    def _rehash(self) -> None:
        # most hashes find their slot at their own place; `_slots` has the few whose place is taken
        places = 8 << (len(self.hash) - 1).bit_length()
        self._mask = np.uint64(places - 1)
        self._direct = np.zeros(places, np.int32)
        held = self.hash[1 : self.size]
        self._direct[(held & self._mask).astype(np.intp)] = np.arange(1, self.size, dtype=np.int32)
