"""The catalogue in process: one row ("slot") an item, contiguous columns.

Slots are numbers of this process alone, in the order in which it read the items: no answer may depend on
them. Slot 0 is "no item". An item gets a slot when it is put, and keeps it when it is dropped; then it is not
`in_catalogue` and never eligible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.memberships import Memberships
from models.release import content
from schemas import times
from schemas.identity import category_hash, group_hash, item_hash, trimmed
from schemas.items import Item

Slots = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

NO_EXPIRY: Final = np.iinfo(np.int64).max
UNDATED: Final = np.iinfo(np.int64).min
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
    with the least hash (0: none), `sizes` the numbers of variants.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hashes = np.zeros(64, np.uint64)
        self.firsts = np.zeros(64, np.int32)
        self.sizes = np.zeros(64, np.int32)
        self._by_hash: dict[int, int] = {}
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
        if number and not self.hashes[number]:
            self.hashes[number] = group_hash(text)
            self._by_hash[group_hash(text)] = number
        return number

    def find_hash(self, value: int) -> int:
        """The number of the group with this hash; 0 where there is none."""
        return self._by_hash.get(value, 0)

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


class ItemTable:
    """Columns of length `capacity`; those of a slot that is not `in_catalogue` are undefined.

    `until`: Unix ms from which the item is not to be shown, 0 while it is not available. `published`: Unix ms
    before which it is not to be shown, `UNDATED` where none is given. `titled`: it has a title; one without
    is neither fresh nor explored. `leads`: in the catalogue, and without
    a group or the first of its group by hash; `next_variant`: the next of its group by hash, 0 where there is
    none. `revision` counts changes;
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
        self.categories, self.owners, self.types, self.tags = (
            Vocabulary(),
            Vocabulary(),
            Vocabulary(),
            Vocabulary(),
        )
        self.groups = Groups()
        self.memberships = Memberships(capacity)
        self.category_numbers = {0: 0}
        """Category hash -> number of the category."""
        self._journal: list[int] = []
        """Slot of each change, oldest first; the last change has the number `revision`."""
        self._slots: dict[int, int] = {}
        self._on_slot: Callable[[int, int], None] | None = None
        self._newest, self._ages = np.empty(0, np.int32), np.empty(0, np.int64)
        self._sorted = 0
        """The revision that `_newest` is of."""
        for name, dtype, shape in _COLUMNS:
            setattr(self, name, np.zeros((capacity, *shape), dtype))
        self._rehash()

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
        if self._sorted != self.revision:
            dated = self.in_catalogue & self.titled & (self.published != UNDATED)
            slots = np.flatnonzero(dated)
            order = np.lexsort((self.hash[slots], -self.published[slots]))
            self._newest, self._sorted = slots[order].astype(np.int32), self.revision
            self._ages = -self.published[self._newest]
        first, end = np.searchsorted(self._ages, (-until, -after))
        return self._newest[first:end]

    def put(self, item: Item, vector: content.Vector | None = None) -> int:
        """Adds or replaces the item. Gives its slot. `vector`: its content vector, if it is made already."""
        slot = self.slot(item_hash(item.item_id))
        categories = content.categories(item)
        self._join(slot, self.groups.number(item.group_id))
        self.count += not self.in_catalogue[slot]
        self.in_catalogue[slot] = True
        self.ids[slot], self.titles[slot] = item.item_id, content.head(item.title)
        self.titled[slot] = bool(trimmed(self.titles[slot]))
        self.memberships.put(slot, tuple([self._category(name) for name in categories]))
        self.every_tag[slot] = tuple(self.tags.number(tag) for tag in item.tags)
        self.owner[slot] = self.owners.number(item.owner_id)
        self.type[slot] = self.types.number(item.type)
        self.published[slot] = UNDATED if item.published_at is None else item.published_at
        self.until[slot] = _until(item)
        self.vectors[slot] = content.vector(item) if vector is None else vector
        self._record_change(slot)
        return slot

    def drop(self, item_id: str) -> None:
        """Removes the item; its slot stays allocated."""
        slot = self._slots.get(item_hash(item_id))
        if slot is None or not self.in_catalogue[slot]:
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
        slot = self._slots.get(item_hash(item_id), 0)
        return slot if self.in_catalogue[slot] else 0

    def slot(self, item: int) -> int:
        """The slot of an item's hash; a new one where it has none."""
        found = self._slots.get(item)
        return self._allocate(item) if found is None else found

    def on_slot(self, call: Callable[[int, int], None]) -> None:
        """Calls `call(hash, slot)` for each item that gets a slot from now on."""
        self._on_slot = call

    def locate(self, hashes: Hashes) -> Slots:
        """(n,) the slot of each hash; 0 where it has none."""
        slots: Slots = self._direct[(hashes & self._mask).astype(np.intp)]
        missed = np.flatnonzero(self.hash[slots] != hashes)
        if len(missed):  # their place holds another item or none
            slots[missed] = [self._slots.get(h, 0) for h in hashes[missed].tolist()]
        return slots

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
        numbers = np.where(self.in_catalogue[slots], self.category[slots], 0)
        names = [self.categories.texts[number] for number in numbers.tolist()]
        return np.array([category_hash(name) if name else 0 for name in names], np.uint32)

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
        self.every_tag.append(())
        place = item & int(self._mask)
        if not self._direct[place]:
            self._direct[place] = slot
        if self._on_slot is not None:
            self._on_slot(item, slot)
        return slot

    def _grow(self) -> None:
        for name, _, _ in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        self.memberships.grow(len(self.hash))
        self._rehash()

    def _rehash(self) -> None:
        # most hashes find their slot at their own place; `_slots` has the few whose place is taken
        places = 8 << (len(self.hash) - 1).bit_length()
        self._mask = np.uint64(places - 1)
        self._direct = np.zeros(places, np.int32)
        held = self.hash[1 : self.size]
        self._direct[(held & self._mask).astype(np.intp)] = np.arange(1, self.size, dtype=np.int32)


def _until(item: Item) -> int:
    """Unix ms from which the item is not to be shown. Who writes a year beyond 2100 means never."""
    if not item.available:
        return 0
    at = item.expires_at
    return NO_EXPIRY if at is None or at > times.LATEST else at
