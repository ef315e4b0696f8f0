"""Everything that is a sum over people, as one value: facts go in, published views come out."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.covisit import Pairs
from models.popularity import Popularity
from schemas import facts, tables
from schemas.facts import Entry

VERSION: Final = 1
"""Of the stored form."""


class Hole(RuntimeError):
    """A batch of facts is missing from the delta log: the tables must be rebuilt."""


class Numbers:
    """Dense numbers for hashes, in the order they were first seen: internal to one set of tables."""

    def __init__(self, hashes: NDArray[np.uint64] | None = None) -> None:
        self.hashes = np.empty(0, np.uint64) if hashes is None else hashes
        self._of = {h: n for n, h in enumerate(self.hashes.tolist())}

    def __len__(self) -> int:
        return len(self.hashes)

    def of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Their numbers; new hashes get the next ones."""
        listed, known = hashes.tolist(), len(self._of)
        found = [self._of.setdefault(h, len(self._of)) for h in listed]
        if len(self._of) > known:
            self.hashes = np.fromiter(self._of, np.uint64, len(self._of))
        return np.array(found, np.int64)


class Tables:
    """Popularity by item and category, and pairs, as of a vector of positions."""

    def __init__(self, partitions: int) -> None:
        self.positions = [0] * partitions
        self.items, self.categories = Numbers(), Numbers()
        self.popularity, self.by_category = Popularity(), Popularity()
        self.pairs = Pairs()
        self._dirty_items: set[int] = set()
        self._dirty_categories: set[int] = set()
        self._whole = True  # a first publication
        self._rescaled = False

    def apply(self, partition: int, entry: Entry) -> None:
        """Adds an entry's facts at or after this partition's position. Errors: `Hole`."""
        position = self.positions[partition]
        if entry.first > position:
            raise Hole(
                f"partition {partition}: the tables stand at {position}, the next entry of the delta"
                f" log starts at {entry.first}"
            )
        if entry.next <= position:
            return
        self.positions[partition] = entry.next
        actions = facts.since(entry, position).actions
        if len(actions.item):
            self._add(actions)

    def _add(self, actions: facts.Actions) -> None:
        item = self.items.of(actions.item)
        partner = self.items.of(actions.partner)
        category = self.categories.of(actions.category.astype(np.uint64))
        self._rescaled |= self.popularity.add(item, actions, len(self.items))
        self._rescaled |= self.by_category.add(category, actions, len(self.categories))
        weight = 1 / np.sqrt(
            actions.lag, dtype=np.float64
        )  # the nearer the visit, the closer the relation
        time = np.repeat(actions.time.astype(np.float64), actions.pairs)
        changed = self.pairs.add(np.repeat(item, actions.pairs), partner, weight, time)
        self._dirty_items.update(np.unique(item).tolist(), changed.tolist())
        self._dirty_categories.update(np.unique(category).tolist())

    def meta(self, version: int) -> tables.Meta:
        marks = [*self.popularity.landmarks, *self.by_category.landmarks]
        return tables.Meta(
            version=version, positions=list(self.positions), landmarks=[mark.at for mark in marks]
        )

    def publish(self, version: int) -> tables.Published:
        """What changed since the last publication; all popularity after a landmark moved."""
        if self._whole:
            self._dirty_items = set(range(len(self.items)))
        rescaled = self._whole or self._rescaled
        self._whole = self._rescaled = False
        items, hashes = sorted(self._dirty_items), self.items.hashes
        # a landmark of popularity is none of the pairs': their lists stay as they are
        popular = range(len(self.items)) if rescaled else items
        categories = range(len(self.categories)) if rescaled else sorted(self._dirty_categories)
        published = tables.Published(
            meta=self.meta(version),
            neighbours={int(hashes[n]): self.pairs.neighbours(n, hashes) for n in items},
            popularity={int(hashes[n]): self.popularity.sums[n].tobytes() for n in popular},
            categories={
                int(self.categories.hashes[n]): self.by_category.sums[n].tobytes()
                for n in categories
            },
        )
        self._dirty_items.clear()
        self._dirty_categories.clear()
        return published

    @property
    def changed(self) -> bool:
        return bool(self._dirty_items or self._dirty_categories)

    def dump(self) -> bytes:
        """The whole value, to be loaded by `load`."""
        self.pairs.settle()
        file = io.BytesIO()
        np.savez(
            file,
            version=np.array([VERSION]),
            positions=np.array(self.positions, np.int64),
            items=self.items.hashes,
            categories=self.categories.hashes,
            popularity=self.popularity.sums[: len(self.items)],
            by_category=self.by_category.sums[: len(self.categories)],
            landmarks=np.array(
                [
                    mark.at
                    for mark in (
                        *self.popularity.landmarks,
                        *self.by_category.landmarks,
                        self.pairs.landmark,
                    )
                ]
            ),
            pair_keys=self.pairs.keys,
            pair_sums=self.pairs.sums,
        )
        return file.getvalue()

    @classmethod
    def load(cls, data: bytes) -> Tables:
        """Errors: ValueError where the bytes are of another version or broken."""
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            if int(held["version"][0]) != VERSION:
                raise ValueError("the stored tables are of another version: rebuild")
            made = cls(len(held["positions"]))
            made.positions = held["positions"].tolist()
            made.items, made.categories = Numbers(held["items"]), Numbers(held["categories"])
            made.popularity.sums, made.by_category.sums = held["popularity"], held["by_category"]
            made.pairs.keys, made.pairs.sums = held["pair_keys"], held["pair_sums"]
            marks = [
                *made.popularity.landmarks,
                *made.by_category.landmarks,
                made.pairs.landmark,
            ]
            for mark, at in zip(marks, held["landmarks"].tolist(), strict=True):
                mark.at = at
        return made
