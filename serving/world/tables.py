"""One published version of the tables in process: neighbours, popularity and arms by slot, experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.identity import category_hash
from schemas.state import tables
from schemas.state.counting import Mix
from schemas.state.tables import ARM, ARM_KEY, POPULARITY, WINDOWS, Meta, Published
from serving.world.catalogue import ItemTable, Slots
from serving.world.neighbours import Lists, NeighbourLists, Neighbours
from serving.world.order import highest_first, listed_again
from serving.world.unplaced import Unplaced

EMPTY_META: Final = Meta(version=0, positions=[], landmarks=[])
NO_ROWS: Final[Mapping[bytes, bytes]] = {}
MAX_ORDERS: Final = 16
"""Orders of the catalogue that are kept, each of one mix: more than the releases and windows asked for."""


class Located(NamedTuple):
    """Lists by slot, and those of which an item has no slot: (item hash, list as published)."""

    lists: Sequence[Lists]
    missing: Sequence[tuple[int, bytes]]


NO_LISTS: Final = Located((), ())


class Arms(NamedTuple):
    """The arms of one placement. `served` (slots,): how often each item was served there; an item with a slot
    beyond its end never was."""

    served: NDArray[np.uint32]


class Tables:
    """The tables that the roll-up published last, by slot of `items`. Rows of items without a slot wait, and
    are here once their items are.

    `popularity` (capacity, windows): decayed sums; `maxima` (windows,): the highest of each, 1 where all are
    0. `neighbours` and `popularity` have the capacity of `items`.
    """

    def __init__(self, items: ItemTable) -> None:
        self.items = items
        self.unplaced = Unplaced()
        items.on_slot(self._adopt)
        self.meta = EMPTY_META
        self.neighbours = NeighbourLists(len(items.hash))
        self.popularity: NDArray[np.float64] = np.zeros((len(items.hash), len(WINDOWS)))
        self.maxima = np.ones(len(WINDOWS))
        self.experiments: dict[bytes, bytes] = {}
        """`schemas.state.tables.MOMENTS_KEY` -> rows of `MOMENTS`."""
        self._arms: dict[int, Arms] = {}
        self._highest = np.zeros(len(WINDOWS))
        self._grown = 0
        self._orders: dict[Mix, Slots] = {}
        self._orders_before: dict[Mix, Slots] = {}
        """Those of an earlier version, from which one is made."""
        self._ranks: dict[Mix, NDArray[np.int32]] = {}
        self._ordered: tuple[int, int] = (-1, -1)

    @property
    def layout(self) -> int:
        """Rises where another array takes the place of `popularity`, of the arms' or of the neighbours'."""
        return self._grown + self.neighbours.layout

    @property
    def version(self) -> str:
        """``served_by.tables``: the vector of positions, "0" before the first was published."""
        return self.meta.name or "0"

    def load(
        self, meta: Meta, neighbours: Mapping[int, bytes], popularity: Mapping[int, bytes]
    ) -> None:
        """Replaces all tables; arms and experiments become empty."""
        self.clear()
        self._install(meta, neighbours, popularity)

    def arms(self, placement: str) -> Arms | None:
        """The arms of `placement`; None where it served nothing yet."""
        return self._arms.get(category_hash(placement))

    def clear(self) -> None:
        """Empties all tables."""
        self.neighbours.clear()
        self.experiments.clear()
        self._arms.clear()
        self.popularity[:] = 0
        self._set_highest(np.zeros(len(WINDOWS)))
        self._grown += 1
        self.unplaced.clear()

    def apply(self, change: Published) -> None:
        """Applies the changes of the next version."""
        self._install(
            change.meta, change.neighbours, change.popularity, change.arms, change.experiments
        )

    def locate(self, lists: Sequence[tuple[int, bytes]]) -> Located:
        """Neighbours by slot, of lists as published, for `install`. Changes nothing that is read."""
        listed = tables.neighbours(b"".join([value for _, value in lists]))
        slots = self.items.locate(listed["item"].astype(np.uint64))
        owners = self.items.locate(np.array([item for item, _ in lists], np.uint64))
        sizes = np.array([len(value) for _, value in lists], np.int64)
        lengths = (sizes // tables.NEIGHBOUR.itemsize).astype(np.int32)
        complete = owners != 0
        complete[np.arange(len(lists)).repeat(lengths)[slots == 0]] = False
        if complete.all():
            return Located((Lists(owners, lengths, Neighbours.of(slots, listed)),), ())
        missing = [lists[at] for at in np.flatnonzero(~complete).tolist()]
        here = complete.repeat(lengths)
        found = Neighbours.of(slots[here], listed[here])
        return Located((Lists(owners[complete], lengths[complete], found),), missing)

    def install(
        self,
        meta: Meta,
        located: Located,
        popularity: Mapping[int, bytes],
        arms: Mapping[bytes, bytes] = NO_ROWS,
        experiments: Mapping[bytes, bytes] = NO_ROWS,
    ) -> None:
        """Becomes version `meta` in one step, so that no answer mixes two versions."""
        for lists in located.lists:
            self.neighbours.put(lists)
            self.unplaced.complete(lists.owners)
        for item, value in located.missing:
            self._place(item, value)
        if popularity:
            self._install_popularity(popularity)
        if arms:
            self._install_arms(arms)
        self.experiments.update(experiments)
        self.meta = meta

    def popular(self, mix: Mix) -> Slots:
        """All items of the catalogue by `share` of this mix, then the newest, then by hash.

        Items without events are at the end.
        """
        version = (self.meta.version, self.items.revision)
        if version != self._ordered:
            self._orders_before, self._orders = self._orders, {}
            self._ranks.clear()
            self._ordered = version
        if mix not in self._orders:
            if len(self._orders) >= MAX_ORDERS:
                oldest = next(iter(self._orders))
                del self._orders[oldest]
                self._ranks.pop(oldest, None)
            self._orders[mix] = self._order(mix)
        return self._orders[mix]

    def most_popular(self, slots: Slots, mix: Mix, n: int) -> Slots:
        """The first `n` of `slots`, which are distinct and in the catalogue, in the order of `popular`."""
        order, ranks = self.popular(mix), self.ranks(mix)[slots]
        if len(ranks) > n:
            ranks = np.partition(ranks, n - 1)[:n]
        return order[np.sort(ranks)]

    def ranks(self, mix: Mix) -> NDArray[np.int32]:
        """(capacity,) by slot its place in the order of `popular`; undefined for what is not in the
        catalogue."""
        order = self.popular(mix)
        if mix not in self._ranks:
            self._ranks[mix] = np.zeros(len(self.items.hash), np.int32)
            self._ranks[mix][order] = np.arange(len(order), dtype=np.int32)
        return self._ranks[mix]

    def share(self, slots: Slots, mix: Mix) -> NDArray[np.float64]:
        """(n,) popularity relative to the most popular item of all, in [0, 1]: of several windows the mean by
        their weights in `mix`.

        Two decayed sums of one column may be divided at any time: both decay alike.
        """
        shares, total = np.zeros(len(slots)), sum(mix)
        # a row lies in one cache line, and `take` is twice as fast as an index of two arrays
        rows = self.popularity.take(slots, 0)
        for window, weight in enumerate(mix):
            if weight:
                column = rows[:, window] / self.maxima[window]
                shares += column * (weight / total)
        return shares

    def _order(self, mix: Mix) -> Slots:
        items = self.items
        before = self._orders_before.get(mix, np.empty(0, np.int32))
        slots = listed_again(before, items.in_catalogue)
        windows = np.flatnonzero(mix)
        # of one window the sums themselves: a share of an old item may be too small for a float
        single = len(windows) == 1
        wanted = self.popularity[slots, windows[0]] if single else self.share(slots, mix)
        published = items.published[slots].astype(np.float64)
        return slots[highest_first(wanted, published, items.hash[slots])]

    def _install(
        self,
        meta: Meta,
        neighbours: Mapping[int, bytes],
        popularity: Mapping[int, bytes],
        arms: Mapping[bytes, bytes] = NO_ROWS,
        experiments: Mapping[bytes, bytes] = NO_ROWS,
    ) -> None:
        located = self.locate(list(neighbours.items())) if neighbours else NO_LISTS
        self.install(meta, located, popularity, arms, experiments)

    def _install_arms(self, arms: Mapping[bytes, bytes]) -> None:
        keys = np.frombuffer(b"".join(arms), ARM_KEY)
        served = np.frombuffer(b"".join(arms.values()), ARM)["served"]
        slots = self.items.locate(keys["item"].astype(np.uint64))
        for placement in np.unique(keys["placement"]).tolist():
            rows = (keys["placement"] == placement) & (slots != 0)
            self._counts(placement)[slots[rows]] = served[rows]
        for row in np.flatnonzero(slots == 0).tolist():
            self.unplaced.keep_served(
                int(keys["item"][row]), int(keys["placement"][row]), int(served[row])
            )

    def _counts(self, placement: int) -> NDArray[np.uint32]:
        """How often each slot was served at the placement, with room for all slots."""
        counts = self._arms.get(placement, Arms(np.zeros(0, np.uint32))).served
        missing = len(self.items.hash) - len(counts)
        if missing > 0:
            counts = np.concatenate([counts, np.zeros(missing, np.uint32)])
            self._arms[placement] = Arms(counts)
            self._grown += 1
        return counts

    def _install_popularity(self, popularity: Mapping[int, bytes]) -> None:
        slots = self.items.locate(np.fromiter(popularity, np.uint64, len(popularity)))
        rows = np.frombuffer(b"".join(popularity.values()), POPULARITY).reshape(-1, len(WINDOWS))
        if not slots.all():
            items = list(popularity)
            for row in np.flatnonzero(slots == 0).tolist():
                self.unplaced.keep_popularity(items[row], popularity[items[row]])
            slots, rows = slots[slots != 0], rows[slots != 0]
        highest = np.maximum(self._highest, rows.max(axis=0, initial=0.0))
        was_highest = (self.popularity[slots] == self._highest).any(axis=0)
        self.popularity[slots] = rows
        # only where the highest item may have fallen all items are looked at
        for window in np.flatnonzero(was_highest & (highest == self._highest)).tolist():
            highest[window] = self.popularity[:, window].max()
        self._set_highest(highest)

    def _set_highest(self, highest: NDArray[np.float64]) -> None:
        self._highest = highest
        self.maxima[:] = np.where(highest > 0, highest, 1.0)

    def _place(self, item: int, value: bytes) -> None:
        """Installs one list; where its item, or one that it names, has no slot, that waits."""
        listed = tables.neighbours(value)
        owner = int(self.items.locate(np.array([item], np.uint64))[0])
        if not owner:
            self.unplaced.keep_neighbours(item, value)
            return
        slots = self.items.locate(listed["item"].astype(np.uint64))
        there = slots != 0
        found = Neighbours.of(slots[there], listed[there])
        lengths = np.array([len(found.slots)], np.int32)
        self.neighbours.put(Lists(np.array([owner], np.int32), lengths, found))
        self.unplaced.keep_incomplete(owner, value, slots)

    def _adopt(self, item: int, slot: int) -> None:
        """Gives an item that has its slot now what was published of it before."""
        self._grow()
        rows = self.unplaced.take(item)
        if rows.popularity is not None:
            self.popularity[slot] = tables.popularity(rows.popularity)
            self._set_highest(np.maximum(self._highest, self.popularity[slot]))
        for placement, served in rows.served.items():
            self._counts(placement)[slot] = served
        if rows.neighbours is not None:
            self._place(item, rows.neighbours)
        for owner, value in rows.owners:
            self._place(int(self.items.hash[owner]), value)

    def _grow(self) -> None:
        """Gives popularity and neighbours the capacity of the catalogue."""
        missing = len(self.items.hash) - len(self.popularity)
        if missing > 0:
            self.popularity = np.concatenate([self.popularity, np.zeros((missing, len(WINDOWS)))])
            self.neighbours.grow(len(self.popularity))
            self._grown += 1
