"""Named filters over the catalogue: which items pass one, kept current as they change."""

from __future__ import annotations

from typing import Final

import numpy as np

from schemas.control import Filter
from serving.world.catalogue import ItemTable, Mask, Slots

REMEMBERED: Final = 64
"""How many named filters are kept current at a time."""


class Filters:
    """The filters that were asked of a table lately."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._passing: dict[Filter, Passing] = {}
        self._kinds: dict[tuple[str, Filter | None], int] = {}
        self._counted = 0
        """The generation of the table that `_kinds` is of."""

    def passing(self, wanted: Filter) -> Mask:
        """By slot: which items pass a filter, but for its age. Kept current as they change."""
        found = self._passing.get(wanted)
        if found is None:
            if len(self._passing) == REMEMBERED:
                del self._passing[next(iter(self._passing))]
            found = self._passing[wanted] = Passing(self._items, wanted)
        return found.now()

    def kinds(self, column: str, wanted: Filter | None = None) -> int:
        """How many kinds a cap on `column` ("category", "owner") tells apart among known items that
        pass `wanted`: its values, and each item without one for itself."""
        items = self._items
        if self._counted != items.generation:
            self._kinds.clear()
            self._counted = items.generation
        key = (column, wanted)
        if key not in self._kinds:
            known = items.known if wanted is None else items.known & self.passing(wanted)
            numbers = getattr(items, column)[known]
            self._kinds[key] = len(np.unique(numbers[numbers != 0])) + int((numbers == 0).sum())
        return self._kinds[key]


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
