"""Named filters over the catalogue: which items pass one, kept current as they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from schemas.control import Filter

if TYPE_CHECKING:
    from serving.world.catalogue import ItemTable, Mask, Slots


class Passing:
    """Which items of a table pass a filter, by slot."""

    def __init__(self, items: ItemTable, wanted: Filter) -> None:
        self._items, self._wanted = items, wanted
        self._mask: Mask = np.zeros(0, np.bool_)
        self._generation = -1  # before the first

    def now(self) -> Mask:
        items = self._items
        missing = len(items.hash) - len(self._mask)
        if missing:
            self._mask = np.concatenate([self._mask, np.zeros(missing, np.bool_)])
        if self._generation != items.generation:
            slots = items.changed(self._generation)
            self._mask[slots] = self._passes(slots)
            self._generation = items.generation
        return self._mask

    def _passes(self, slots: Slots) -> Mask:
        items, wanted = self._items, self._wanted
        passes = items.known[slots]
        for column, names, texts in (
            (items.type, items.types, wanted.types),
            (items.owner, items.owners, wanted.owners),
        ):
            if texts:
                passes &= np.isin(column[slots], [names.find(text) or -1 for text in texts])
        for lists, names, texts in (
            (items.every_category, items.categories, wanted.categories),
            (items.every_tag, items.tags, wanted.tags),
        ):
            if texts:
                numbers = {names.find(text) for text in texts}
                passes &= np.array(
                    [not numbers.isdisjoint(lists[slot]) for slot in slots.tolist()], np.bool_
                )
        return passes
