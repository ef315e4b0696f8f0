"""Named filters over the catalogue: masks of the items that pass, kept current as items change."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.control import Filter
from schemas.identity import trimmed
from serving.world.catalogue import ItemTable, Mask, Slots

MAX_CACHED_FILTERS: Final = 64
"""Masks are kept for so many filters; the oldest is dropped first."""


class Filters:
    """The masks of the filters that requests used lately, over one table."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._masks: dict[Filter, FilterMask] = {}
        self._distinct: dict[tuple[str, Filter | None], int] = {}
        self._counted_revision = 0
        """The revision of the table that `_distinct` counts."""

    def mask(self, wanted: Filter) -> Mask:
        """(capacity,) by slot: which items pass `wanted`, its age limit left out."""
        found = self._masks.get(wanted)
        if found is None:
            if len(self._masks) == MAX_CACHED_FILTERS:
                del self._masks[next(iter(self._masks))]
            found = self._masks[wanted] = FilterMask(self._items, wanted)
        return found.current()

    def count_distinct(self, column: str, wanted: Filter | None = None) -> int:
        """How many distinct values a cap on `column` ("category", "owner") counts among the items that pass
        `wanted`; each item without a value counts as one."""
        items = self._items
        if self._counted_revision != items.revision:
            self._distinct.clear()
            self._counted_revision = items.revision
        key = (column, wanted)
        if key not in self._distinct:
            rows = items.in_catalogue if wanted is None else items.in_catalogue & self.mask(wanted)
            numbers = getattr(items, column)[rows]
            self._distinct[key] = len(np.unique(numbers[numbers != 0])) + int((numbers == 0).sum())
        return self._distinct[key]


class FilterMask:
    """The mask of one filter over a table, by slot."""

    def __init__(self, items: ItemTable, wanted: Filter) -> None:
        self._items, self._wanted = items, wanted
        self._mask: Mask = np.zeros(0, np.bool_)
        self._revision = -1  # before the first revision

    def current(self) -> Mask:
        """(capacity,) the mask as of the table's revision."""
        items = self._items
        missing = len(items.hash) - len(self._mask)
        if missing:
            self._mask = np.concatenate([self._mask, np.zeros(missing, np.bool_)])
        if self._revision != items.revision:
            slots = items.changed(self._revision)
            self._mask[slots] = self._passes(slots)
            self._revision = items.revision
        return self._mask

    def _passes(self, slots: Slots) -> Mask:
        items, wanted = self._items, self._wanted
        passes = items.in_catalogue[slots]
        for column, names, texts in (
            (items.type, items.types, wanted.types),
            (items.owner, items.owners, wanted.owners),
        ):
            if texts:
                passes &= np.isin(column[slots], [names.find(trimmed(it)) or -1 for it in texts])
        if wanted.categories:
            numbers = items.categories.found(wanted.categories)
            passes &= items.memberships.has_any(slots, numbers)
        if wanted.tags:
            numbers, tags = items.tags.found(wanted.tags), items.every_tag
            passes &= np.array(
                [not numbers.isdisjoint(tags[slot]) for slot in slots.tolist()], np.bool_
            )
        return passes
