"""Neighbours, popularity and arms in process, by slot, and experiments: one published version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.identity import category_hash
from schemas.state import tables
from schemas.state.tables import ARM, ARM_KEY, POPULARITY, WINDOWS, Meta, Published
from serving.world.catalogue import ItemTable, Slots

EMPTY_META: Final = Meta(version=0, positions=[], landmarks=[])
NO_ROWS: Final[Mapping[bytes, bytes]] = {}


class Neighbours(NamedTuple):
    """Best first; `scores` in (0, 1]."""

    slots: Slots
    scores: NDArray[np.float32]


NO_NEIGHBOURS: Final = Neighbours(np.empty(0, np.int32), np.empty(0, np.float32))
"""Of an item that nothing goes with."""


class Arms(NamedTuple):
    """A placement's. `served`: (slots,) how often each item was served there; a slot beyond its end,
    which an item got since, never was."""

    served: NDArray[np.uint32]


class Tables:
    """What the roll-up published last. Slots are those of `items`, which it allocates as needed."""

    def __init__(self, items: ItemTable) -> None:
        self.items = items
        self.meta = EMPTY_META
        self.neighbours: dict[int, Neighbours] = {}
        self.popularity: NDArray[np.float64] = np.zeros((1, len(WINDOWS)))
        self.experiments: dict[bytes, bytes] = {}
        """`schemas.state.tables.MOMENTS_KEY` -> rows of `MOMENTS`."""
        self._arms: dict[int, Arms] = {}
        self._maxima = np.ones(len(WINDOWS))
        self._orders: dict[int, Slots] = {}
        self._ordered: tuple[int, int] = (-1, -1)

    @property
    def version(self) -> str:
        """``served_by.tables``: the vector of positions, "0" before the first was published."""
        return self.meta.name or "0"

    def load(
        self, meta: Meta, neighbours: Mapping[int, bytes], popularity: Mapping[int, bytes]
    ) -> None:
        """Takes these anew; what the mappings lack is gone, and so are arms and experiments."""
        self.clear()
        self._install(meta, neighbours, popularity)

    def arms(self, placement: str) -> Arms | None:
        """None where nothing was ever served."""
        return self._arms.get(category_hash(placement))

    def clear(self) -> None:
        self.neighbours.clear()
        self.experiments.clear()
        self._arms.clear()
        self.popularity[:] = 0
        self._maxima[:] = 1

    def apply(self, change: Published) -> None:
        """Goes on to the next version."""
        self._install(
            change.meta, change.neighbours, change.popularity, change.arms, change.experiments
        )

    def locate(self, lists: Sequence[tuple[int, bytes]]) -> dict[int, Neighbours]:
        """Slot -> neighbours, of lists as published: what `take` takes. Changes nothing that is read."""
        listed = tables.neighbours(b"".join([value for _, value in lists]))
        slots = self.items.locate_all(listed["item"].astype(np.uint64))
        scores = listed["score"].copy()
        owners = self.items.locate_all(np.array([item for item, _ in lists], np.uint64))
        ends = np.cumsum([len(value) // tables.NEIGHBOUR.itemsize for _, value in lists])
        return {
            owner: Neighbours(part.copy(), score.copy())
            for owner, part, score in zip(
                owners.tolist(),
                np.split(slots, ends[:-1]),
                np.split(scores, ends[:-1]),
                strict=True,
            )
        }

    def install(
        self,
        meta: Meta,
        neighbours: Mapping[int, Neighbours],
        popularity: Mapping[int, bytes],
        arms: Mapping[bytes, bytes] = NO_ROWS,
        experiments: Mapping[bytes, bytes] = NO_ROWS,
    ) -> None:
        """Becomes version `meta`, in one step: no answer is made of two versions."""
        self.neighbours.update(neighbours)
        if popularity:
            slots = self.items.locate_all(np.fromiter(popularity, np.uint64, len(popularity)))
            self._grow()
            rows = np.frombuffer(b"".join(popularity.values()), POPULARITY)
            self.popularity[slots] = rows.reshape(-1, len(WINDOWS))
            maxima = self.popularity.max(axis=0)
            self._maxima = np.where(maxima > 0, maxima, 1)
        if arms:
            self._install_arms(arms)
        self.experiments.update(experiments)
        self.meta = meta

    def popular(self, window: int) -> Slots:
        """Known items by popularity in `WINDOWS[window]`, then the newest, then by hash.

        So it holds the whole catalogue: items that nobody met yet stand at its end.
        """
        now = (self.meta.version, self.items.revision)
        if now != self._ordered:
            self._orders.clear()
            self._ordered = now
        if window not in self._orders:
            self._orders[window] = self._order(window)
        return self._orders[window]

    def share(self, slots: Slots, window: int) -> NDArray[np.float64]:
        """(n,) popularity relative to the most popular item of all, in [0, 1].

        A decayed sum may be divided by another of the same column at any time: both age alike.
        """
        self._grow()
        shares: NDArray[np.float64] = self.popularity[slots, window] / self._maxima[window]
        return shares

    def _order(self, window: int) -> Slots:
        self._grow()
        items = self.items
        slots = np.flatnonzero(items.in_catalogue[: items.size])
        newest = -items.published[slots].astype(np.float64)
        keys = (items.hash[slots], newest, -self.popularity[slots, window])
        return slots[np.lexsort(keys)].astype(np.int32)

    def _install(
        self,
        meta: Meta,
        neighbours: Mapping[int, bytes],
        popularity: Mapping[int, bytes],
        arms: Mapping[bytes, bytes] = NO_ROWS,
        experiments: Mapping[bytes, bytes] = NO_ROWS,
    ) -> None:
        located = self.locate(list(neighbours.items())) if neighbours else {}
        self.install(meta, located, popularity, arms, experiments)

    def _install_arms(self, arms: Mapping[bytes, bytes]) -> None:
        keys = np.frombuffer(b"".join(arms), ARM_KEY)
        served = np.frombuffer(b"".join(arms.values()), ARM)["served"]
        slots = self.items.locate_all(keys["item"].astype(np.uint64))
        for placement in np.unique(keys["placement"]).tolist():
            mine = keys["placement"] == placement
            held = self._arms.get(placement, Arms(np.zeros(0, np.uint32))).served
            missing = len(self.items.hash) - len(held)
            if missing > 0:
                held = np.concatenate([held, np.zeros(missing, np.uint32)])
                self._arms[placement] = Arms(held)
            held[slots[mine]] = served[mine]

    def _grow(self) -> None:
        """As many rows as the catalogue has room for."""
        missing = len(self.items.hash) - len(self.popularity)
        if missing > 0:
            self.popularity = np.concatenate([self.popularity, np.zeros((missing, len(WINDOWS)))])
