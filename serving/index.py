"""Nearest items by content: USearch, exact while the catalogue is small, HNSW above."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from models import content
from serving.catalogue import ItemTable, Slots

REMEMBERED: Final = 4096


class Found(NamedTuple):
    """Best first; `similarity` is the cosine, in (0, 1]; ties by the items' hashes."""

    slots: Slots
    similarity: NDArray[np.float32]


class ContentIndex:
    """Over the vectors of `items`, by slot. `exact` is the largest catalogue searched exactly.

    An exact search is a function of the vectors alone: `content` vectors lie on a grid, so their
    products carry no rounding, and ties are broken by hash, never by slot.
    """

    def __init__(self, items: ItemTable, exact: int) -> None:
        self.items = items
        self.exact = exact
        self._graph = False
        self._index = _index(graph=False)
        self._remembered: OrderedDict[tuple[bytes, int], Found] = OrderedDict()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def version(self) -> str:
        """``served_by.index``: the kind of vector and the catalogue's positions."""
        return f"{content.VERSION}@{self.items.version}"

    def refresh(self) -> None:
        """Takes up what changed in the catalogue since the last time."""
        changed = np.array(sorted(self.items.changed), np.int64)
        if not len(changed):
            return
        self.items.changed.clear()
        self._remembered.clear()
        if self.items.count > self.exact and not self._graph:
            # once: from here on the index is a graph, also when items go again
            self._graph, self._index = True, _index(graph=True)
            changed = np.flatnonzero(self.items.known[: self.items.size])
        self._replace(changed)

    def search(self, query: content.Vector, k: int) -> Found:
        """At most `k` items with a positive cosine to `query`."""
        if not len(self._index) or not query.any():
            return Found(np.empty(0, np.int32), np.empty(0, np.float32))
        key = (query.tobytes(), k)
        found = self._remembered.get(key)
        if found is None:
            found = self._remembered[key] = self._search(query, k)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def _search(self, query: content.Vector, k: int) -> Found:
        matches = self._index.search(query, k, exact=not self._graph, threads=1)
        slots = np.asarray(matches.keys, np.int32)
        similarity = np.float32(1) - np.asarray(matches.distances, np.float32)
        positive = similarity > 0
        if len(slots) == k and positive.all() and not self._graph:
            # which of the last ties came along depends on the order of insertion: leave them out
            positive = similarity > similarity.min()
            if not positive.any():
                return self._tied(query, similarity[0], k)
        slots, similarity = slots[positive], similarity[positive]
        order = np.lexsort((self.items.hash[slots], -similarity))
        return Found(slots[order], similarity[order])

    def _tied(self, query: content.Vector, similarity: np.float32, k: int) -> Found:
        """The first `k` by hash of those that are exactly as near, where all the nearest are."""
        items = self.items
        slots = np.flatnonzero(items.vectors[: items.size] @ query == similarity).astype(np.int32)
        slots = slots[np.argsort(items.hash[slots])][:k]
        return Found(slots, np.full(len(slots), similarity))

    def _replace(self, slots: NDArray[np.int64]) -> None:
        held = slots[self._index.contains(slots)]
        if len(held):
            self._index.remove(held)
        vectors = self.items.vectors[slots]
        worth = self.items.known[slots] & vectors.any(axis=1)
        if worth.any():
            self._index.add(slots[worth], vectors[worth], threads=1)


def _index(graph: bool) -> Index:
    # float16 holds every number of content's grid exactly, and is read in half the time
    if graph:
        return Index(ndim=content.DIM, metric="ip", dtype="f16", expansion_search=128)
    # an exact search walks no graph: the least one is a hundred times quicker to build
    return Index(ndim=content.DIM, metric="ip", dtype="f16", connectivity=2, expansion_add=1)
