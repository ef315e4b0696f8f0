"""Nearest items: USearch over one vector an item, exact while the catalogue is small, HNSW above; or our own
exact search (`serving.world.scan`).

There are two indexes: by content, and in the space of a release. Of a group they hold one item, the first by
hash, so that its many like variants leave room for others. The vectors of both lie on the grid of
`models.release.content`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import numpy as np

from models.release import content, runtime
from models.release.release import Release, Vectors
from serving.world.catalogue import Hashes, ItemTable, Slots
from serving.world.scan import NOTHING_FOUND, Scan, SearchResult

if TYPE_CHECKING:
    from usearch.index import Index

MAX_CACHED_SEARCHES: Final = 4096
USEARCH: Final = "usearch"
SCAN: Final = "scan"
"""What searches: USearch, or `serving.world.scan.Scan`, which is always exact."""
MAX_FOUND: Final = 1000
"""Most items that one search finds."""


class VectorIndex:
    """An index of one vector for each of `items` that leads. `exact`: the number of items up to which search
    by USearch is exact. A vector that is zero, or has a coordinate that is not finite, is not in it.

    An exact search is a function of the vectors alone: they lie on a grid, so their products have no
    rounding, and the hash, never the slot, orders equal ones.
    """

    def __init__(self, items: ItemTable, exact: int, retrieval: str = USEARCH) -> None:
        self.items, self.exact, self.retrieval = items, exact, retrieval
        self._revision = 0
        self._pending: Slots = np.empty(0, np.int32)
        self._graph = False
        self._index: Index | Scan = Scan() if retrieval == SCAN else _index(graph=False)
        self._cache: OrderedDict[tuple[bytes, int], SearchResult] = OrderedDict()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def version(self) -> str:
        """``served_by.index``: the kind of vector and the catalogue's positions."""
        raise NotImplementedError

    @property
    def vectors(self) -> Vectors:
        """(capacity, DIM): one row a slot, zeros where an item has no vector."""
        raise NotImplementedError

    @property
    def memory(self) -> int:
        """Bytes of what a search reads, without room that is free."""
        index = self._index
        if isinstance(index, Scan):
            return len(index) * (index.rows.itemsize * content.DIM + index.slots.itemsize)
        return int(index.serialized_length)

    def refresh(self, limit: int | None = None) -> bool:
        """Indexes the items that changed in the catalogue since the last call, at most `limit` of them.

        True once all are indexed. Until then the index has some items as they were, or lacks them.
        """
        pending = self._changed()
        if not len(pending):
            return True
        self._cache.clear()
        if self.items.count > self.exact and not self._graph and self.retrieval == USEARCH:
            # the one change to a graph, with all items; it stays a graph also when items are removed
            limit = limit if not len(self._index) else None
            self._graph, self._index = True, _index(graph=True)
            pending = np.flatnonzero(self.items.in_catalogue[: self.items.size]).astype(np.int32)
        batch, self._pending = pending[:limit], pending[len(pending) if limit is None else limit :]
        self._encode(batch)
        self._replace(batch)
        return not len(self._pending)

    def _changed(self) -> Slots:
        changed = self.items.changed(self._revision)
        self._revision = self.items.revision
        if not len(changed):
            return self._pending
        return np.union1d(self._pending, changed) if len(self._pending) else changed

    def search(self, query: content.Vector, k: int) -> SearchResult:
        """At most `k` items, 1 to `MAX_FOUND`, with a positive cosine to `query`. Errors: ValueError for
        another `k`."""
        return self.search_bytes(query.tobytes(), k)

    def search_bytes(self, query: bytes, k: int) -> SearchResult:
        """As `search`; `query`: the float32 numbers of the vector."""
        found = self._cache.get((query, k))
        return self._searched(query, k) if found is None else found

    def _searched(self, query: bytes, k: int) -> SearchResult:
        if not 1 <= k <= MAX_FOUND:
            raise ValueError(f"a search finds 1 to {MAX_FOUND} items")
        vector = np.frombuffer(query, np.float32)
        if not len(self._index) or not vector.any():
            return NOTHING_FOUND
        found = self._cache[query, k] = self._search(vector, k)
        if len(self._cache) > MAX_CACHED_SEARCHES:
            self._cache.popitem(last=False)
        return found

    def _search(self, query: content.Vector, k: int) -> SearchResult:
        index = self._index
        if isinstance(index, Scan):
            return index.search(query, k, self.items.hash)
        matches = index.search(query, k, exact=not self._graph, threads=1)
        slots = np.asarray(matches.keys, np.int32)
        similarity = np.float32(1) - np.asarray(matches.distances, np.float32)
        positive = similarity > 0
        if len(slots) == k and positive.all() and not self._graph:
            # which items of the lowest similarity come back depends on the order of insertion: drop them all
            positive = similarity > similarity.min()
            if not positive.any():
                return self._equally_near(query, similarity[0], k)
        slots, similarity = slots[positive], similarity[positive]
        order = np.lexsort((self.items.hash[slots], -similarity))
        return SearchResult(slots[order], similarity[order])

    def _equally_near(self, query: content.Vector, similarity: np.float32, k: int) -> SearchResult:
        """The first `k`, by hash, of all items with this very similarity, the highest there is."""
        items = self.items
        near = self.vectors[: items.size] @ query == similarity
        slots = np.flatnonzero(near & items.leads[: items.size]).astype(np.int32)
        slots = slots[np.argsort(items.hash[slots])][:k]
        return SearchResult(slots, np.full(len(slots), similarity))

    def _encode(self, slots: Slots) -> None:
        """Brings the rows of `vectors` at `slots` up to date."""

    def _replace(self, slots: Slots) -> None:
        vectors = self.vectors[slots]
        indexable = self.items.leads[slots] & vectors.any(axis=1) & np.isfinite(vectors).all(axis=1)
        index = self._index
        if isinstance(index, Scan):
            vectors[~indexable] = 0
            index.replace(slots, vectors)
            return
        keys = slots.astype(np.int64)
        indexed = keys[index.contains(keys)]
        if len(indexed):
            index.remove(indexed)
        if indexable.any():
            index.add(keys[indexable], vectors[indexable], threads=1)


class ContentIndex(VectorIndex):
    """By the content vectors of the items."""

    @property
    def version(self) -> str:
        return f"{content.VERSION}@{self.items.version}"

    @property
    def vectors(self) -> Vectors:
        return self.items.vectors


class SpaceIndex(VectorIndex):
    """In the space of `release`: its own vectors of the items that it has, encoded ones of the others."""

    def __init__(
        self,
        items: ItemTable,
        release: Release,
        exact: int,
        retrieval: str = USEARCH,
    ) -> None:
        super().__init__(items, exact, retrieval)
        self.release = release
        self._vectors: Vectors = np.zeros((1, content.DIM), np.float32)

    @property
    def version(self) -> str:
        return f"{self.release.id}@{self.items.version}"

    @property
    def vectors(self) -> Vectors:
        missing = len(self.items.hash) - len(self._vectors)
        if missing > 0:
            room = np.zeros((missing, content.DIM), np.float32)
            self._vectors = np.concatenate([self._vectors, room])
        return self._vectors

    def vectors_of(self, hashes: Hashes) -> Vectors:
        """(n, DIM) vectors of items by hash, also of an item that is not in the catalogue any more, if the
        release has it; zeros where there is none."""
        space = self.release.space
        rows = space.find(hashes)
        found: Vectors = self.vectors[self.items.locate(hashes)]
        in_release = rows >= 0
        found[in_release] = space.vectors[rows[in_release]]
        return found

    def _encode(self, slots: Slots) -> None:
        items, vectors, space = self.items, self.vectors, self.release.space
        rows = space.find(items.hash[slots])
        in_release = rows >= 0
        vectors[slots[in_release]] = space.vectors[rows[in_release]]
        others = slots[~in_release]
        if len(others):
            vectors[others] = space.encode(items.vectors[others])
        none = ~items.in_catalogue[slots] | ~np.isfinite(vectors[slots]).all(axis=1)
        vectors[slots[none]] = 0


def _index(graph: bool) -> Index:
    runtime.runtime()  # before usearch: the other order segfaults
    from usearch.index import Index

    # float16 holds every number of content's grid exactly, and is read in half the time
    if graph:
        return Index(ndim=content.DIM, metric="ip", dtype="f16", expansion_search=128)
    # an exact search walks no graph: the smallest one is a hundred times quicker to build
    return Index(ndim=content.DIM, metric="ip", dtype="f16", connectivity=2, expansion_add=1)
