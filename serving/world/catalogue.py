"""The catalogue in process: one row ("slot") an item, contiguous columns.

Slots are numbers of this process alone, in the order in which it read the items: no answer may depend on
them. Slot 0 is "no item". An item gets a slot when it is put, and keeps it when it is dropped; then it is not
`in_catalogue` and never eligible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from models import open_addressing
from models.memberships import Memberships
from models.release import content
from models.vocabulary import Categories, Groups, Vocabulary
from schemas import times
from schemas.identity import item_hash, trimmed
from schemas.items import Item

Slots = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

NO_EXPIRY: Final = np.iinfo(np.int64).max
UNDATED: Final = np.iinfo(np.int64).min
PLACES_PER_SLOT: Final = 8
"""Places of hashes for each slot that there is room for: most hashes lie at their first place."""
_NO_SLOTS: Final[Slots] = np.empty(0, np.int32)
_COLUMNS: Final = (
    ("hash", np.uint64, ()),
    ("owner", np.int32, ()),
    ("type", np.int32, ()),
    ("group", np.int32, ()),
    ("next_variant", np.int32, ()),
    ("published", np.int64, ()),
    ("until", np.int64, ()),
    ("in_catalogue", np.bool_, ()),
    ("leads", np.bool_, ()),
    ("titled", np.bool_, ()),
    ("vectors", np.float32, (content.DIM,)),
)


class ItemTable:
    """Columns of length `capacity`; those of a slot that is not `in_catalogue` are undefined.

    `until`: Unix ms from which the item is not to be shown, 0 while it is not available. `published`: Unix ms
    before which it is not to be shown, `UNDATED` where none is given. `titled`: it has a title; one without
    is neither fresh nor explored. `leads`: in the catalogue, and without
    a group or the first of its group by hash; `next_variant`: the next of its group by hash, 0 where there is
    none. `revision` counts changes; `places` has the slots by hash (`models.open_addressing`);
    `positions[p]` is the offset of the topic `items` that the table takes next.
    """

    hash: Hashes
    owner: Slots
    type: Slots
    group: Slots
    next_variant: Slots
    published: NDArray[np.int64]
    until: NDArray[np.int64]
    in_catalogue: NDArray[np.bool_]
    leads: NDArray[np.bool_]
    titled: NDArray[np.bool_]
    vectors: content.Vector

    def __init__(self, capacity: int = 1024) -> None:
        self.size = 1
        self.count = 0
        self.revision = 0
        self.positions: dict[int, int] = {}
        self.ids = [""]
        self.titles = [""]
        self.every_tag: list[tuple[int, ...]] = [()]
        self.categories, self.groups = Categories(), Groups()
        self.owners, self.types, self.tags = Vocabulary(), Vocabulary(), Vocabulary()
        self.memberships = Memberships(capacity)
        self._journal: list[int] = []
        """Slot of each change, oldest first; the last change has the number `revision`."""
        self._on_slot: list[WeakMethod[Callable[[int, int], None]]] = []
        self._grown = 0
        self._newest, self._ages = np.empty(0, np.int32), np.empty(0, np.int64)
        self._sorted = 0
        """The revision that `_newest` is of."""
        for name, dtype, shape in _COLUMNS:
            setattr(self, name, np.zeros((capacity, *shape), dtype))
        self._rehash()

    @property
    def layout(self) -> int:
        """Rises where another array takes the place of one of the table's, of its memberships', its groups'
        or its categories': until then their addresses hold."""
        return self._grown + self.memberships.layout + self.groups.layout + self.categories.layout

    @property
    def places_mask(self) -> int:
        """A hash lies at its place, ``hash & places_mask``, or after it."""
        return len(self.places) - 1

    @property
    def category_hashes(self) -> NDArray[np.uint32]:
        """By number of a category its hash; 0 for none."""
        return self.categories.hashes

    @property
    def category_keys(self) -> NDArray[np.uint32]:
        """The hashes of categories at their places (`Categories`); the numbers are `category_values`."""
        return self.categories.keys

    @property
    def category_values(self) -> NDArray[np.int32]:
        return self.categories.values

    @property
    def category_mask(self) -> int:
        return self.categories.mask

    @property
    def category(self) -> Slots:
        """By slot, the number of the primary category. `memberships` has all of them."""
        return self.memberships.primary

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
        by hash; items without a date or a title are left out."""
        newest, ages = self.newest()
        first, end = np.searchsorted(ages, (-until, -after))
        return newest[first:end]

    def newest(self) -> tuple[Slots, NDArray[np.int64]]:
        """(n,) slots of all items with a date and a title, the latest first, then by hash; and when each was
        published, negated: ascending."""
        if self._sorted != self.revision:
            dated = self.in_catalogue & self.titled & (self.published != UNDATED)
            slots = np.flatnonzero(dated)
            order = np.lexsort((self.hash[slots], -self.published[slots]))
            self._newest, self._sorted = slots[order].astype(np.int32), self.revision
            self._ages = -self.published[self._newest]
        return self._newest, self._ages

    def put(self, item: Item, vector: content.Vector | None = None) -> int:
        """Adds or replaces the item. Gives its slot. `vector`: its content vector, if it is made already.
        Errors: ValueError where that is none."""
        if vector is None:
            vector = content.vector(item)
        elif vector.shape != (content.DIM,) or not np.isfinite(vector).all():
            raise ValueError(f"a content vector has {content.DIM} finite coordinates")
        slot = self.slot(item_hash(item.item_id))
        categories = content.categories(item)
        self._join(slot, self.groups.number(item.group_id))
        self.count += not self.in_catalogue[slot]
        self.in_catalogue[slot] = True
        self.ids[slot], self.titles[slot] = item.item_id, content.head(item.title)
        self.titled[slot] = bool(trimmed(self.titles[slot]))
        self.memberships.put(slot, tuple([self.categories.number(name) for name in categories]))
        self.every_tag[slot] = tuple(self.tags.number(tag) for tag in item.tags)
        self.owner[slot] = self.owners.number(item.owner_id)
        self.type[slot] = self.types.number(item.type)
        self.published[slot] = UNDATED if item.published_at is None else item.published_at
        self.until[slot] = _until(item)
        self.vectors[slot] = vector
        self._record_change(slot)
        return slot

    def drop(self, item_id: str) -> None:
        """Removes the item; its slot stays allocated."""
        slot = self.find(item_id)
        if not slot:
            return
        self._leave(slot)
        self.in_catalogue[slot], self.until[slot] = False, 0
        self.vectors[slot] = 0
        self.memberships.put(slot, ())
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
        return True, self.categories.texts[self.category[slot]], self.groups.texts[self.group[slot]]

    def find(self, item_id: str) -> int:
        """The slot of an item in the catalogue, else 0."""
        slot = open_addressing.find(self.places, self.hash, item_hash(item_id))
        return slot if self.in_catalogue[slot] else 0

    def slot(self, item: int) -> int:
        """The slot of an item's hash; a new one where it has none."""
        return open_addressing.find(self.places, self.hash, item) or self._allocate(item)

    def on_slot(self, call: Callable[[int, int], None]) -> None:
        """Calls the method `call(hash, slot)` for each item that gets a slot from now on, as long as its
        object lives."""
        self._on_slot = [it for it in self._on_slot if it() is not None]
        self._on_slot.append(WeakMethod(call))

    def locate(self, hashes: Hashes) -> Slots:
        """(n,) the slot of each hash; 0 where it has none."""
        return open_addressing.locate(self.places, self.hash, hashes)

    def locate_variants(self, hashes: Hashes) -> tuple[Slots, NDArray[np.intp]]:
        """(m,) the slots that the hashes name, and (m,) the index of the hash that named each: the hash of an
        item has one slot, that of a group (`schemas.identity.group_hash`) those of its variants. In the order
        of the hashes."""
        slots = self.locate(hashes)
        found = np.flatnonzero(slots)
        if len(found) == len(slots) or not self.groups:
            return slots[found], found
        located, indices = [slots[found]], [found]
        for index in np.flatnonzero(slots == 0).tolist():
            variants = self.groups.slots(self.groups.find_hash(int(hashes[index])))
            located.append(variants)
            indices.append(np.full(len(variants), index))
        every, order = np.concatenate(located), np.argsort(np.concatenate(indices), kind="stable")
        return every[order], np.concatenate(indices)[order]

    def variants(self, slots: Slots) -> tuple[Slots, NDArray[np.intp]]:
        """(m,) the slots of the groups that the items at `slots` are in now, each group once, and (m,) the
        index of the last of `slots` in that group: of an item that came into its group later, too."""
        groups = self.group[slots]
        grouped = np.flatnonzero(groups)
        last = dict(zip(groups[grouped].tolist(), grouped.tolist(), strict=True))
        named = [self.groups.slots(group) for group in last]
        of = np.repeat(np.array(list(last.values()), np.intp), [len(each) for each in named])
        return np.concatenate([_NO_SLOTS, *named]), of

    def _join(self, slot: int, group: int) -> None:
        """Puts the item into `group`, out of the one it was in."""
        if self.in_catalogue[slot]:
            if self.group[slot] == group:
                return
            self._leave(slot)
        self.group[slot], self.leads[slot] = group, True
        if group:
            before = int(self.groups.firsts[group])
            self._chain(before, self.groups.add(group, slot, self.hash))

    def _leave(self, slot: int) -> None:
        group, self.leads[slot], self.next_variant[slot] = int(self.group[slot]), False, 0
        if group:
            before = int(self.groups.firsts[group])
            self._chain(before, self.groups.remove(group, slot))

    def _chain(self, before: int, members: Slots) -> None:
        """Links the slots of a group; another may lead it now than that at `before` (0: none)."""
        self.next_variant[members[:-1]], self.next_variant[members[-1:]] = members[1:], 0
        self.leads[members[1:]] = False
        first = int(members[0]) if len(members) else 0
        if first and first != before:
            self.leads[first] = True
            self._record_change(first)
            if before:
                self._record_change(before)

    def categories_of(self, hashes: Hashes) -> NDArray[np.uint32]:
        """(n,) the hash of each item's primary category; 0 where it has none, or is not in the catalogue."""
        slots = self.locate(hashes)
        hashes_of_categories = self.category_hashes[self.category[slots]]
        return np.where(self.in_catalogue[slots], hashes_of_categories, np.uint32(0))

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
        open_addressing.put(self.places, item, slot)
        self.ids.append("")
        self.titles.append("")
        self.every_tag.append(())
        for method in self._on_slot:
            if (call := method()) is not None:
                call(item, slot)
        return slot

    def _grow(self) -> None:
        for name, _, _ in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self.memberships.grow(len(self.hash))
        self._rehash()

    def _rehash(self) -> None:
        size = PLACES_PER_SLOT << (len(self.hash) - 1).bit_length()
        self.places = open_addressing.made(self.hash[: self.size], size)
        self._grown += 1


def _until(item: Item) -> int:
    """Unix ms from which the item is not to be shown. Who writes a year beyond 2100 means never."""
    if not item.available:
        return 0
    at = item.expires_at
    return NO_EXPIRY if at is None or at > times.LATEST else at
