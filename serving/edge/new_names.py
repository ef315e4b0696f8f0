"""What a request would add to the catalogue: items and categories that it does not have.

A process remembers what it has counted: the catalogue hears of it a moment later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
import numpy as np

from schemas.identity import category_hash
from schemas.record import Record
from serving.world.catalogue import ItemTable

MAX_REMEMBERED: Final = 20_000


class _Named(msgspec.Struct):
    category: str | None = None
    categories: tuple[str, ...] = ()


class _Change(msgspec.Struct):
    """Of a change of an item what names categories: a put's item, a patch's fields."""

    item: _Named | None = None
    fields: _Named | None = None
    creates: bool = False


_CHANGE: Final = msgspec.json.Decoder(_Change)


class NewNames(NamedTuple):
    items: frozenset[str]
    categories: frozenset[str]


class CatalogueNames:
    """Finds what is new to `catalogue`."""

    def __init__(self, catalogue: ItemTable) -> None:
        self._catalogue = catalogue
        self._remembered: dict[tuple[str, str], None] = {}

    def new(self, records: Iterable[Record]) -> NewNames:
        """Of records of `items`, what no earlier request was counted for and the catalogue lacks."""
        items, categories = set[str](), set[str]()
        for record in records:
            change = _CHANGE.decode(record.value)
            name = record.key.decode()
            if (change.item is not None or change.creates) and self._is_new("item", name):
                items.add(name)
            for named in (change.item, change.fields):
                if named is not None:
                    words = {*named.categories, named.category} - {None, ""}
                    categories.update(it for it in words if it and self._is_new("category", it))
        return NewNames(frozenset(items), frozenset(categories))

    def remember(self, names: NewNames) -> None:
        """They are counted now."""
        for kind, words in (("item", names.items), ("category", names.categories)):
            for word in words:
                self._remembered[kind, word] = None
        while len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def _is_new(self, kind: str, word: str) -> bool:
        if (kind, word) in self._remembered:
            return False
        if kind == "item":
            return not self._catalogue.find(word)
        hashes = np.array([category_hash(word)], np.uint32)
        return not self._catalogue.categories.numbers_of(hashes)[0]
