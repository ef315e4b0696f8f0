"""The arrays of a world as the compiled decision reads them: pointers, renewed where another array came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel
from schemas.state.tables import Meta
from serving.decide.case import MINUTE_MS, Ask, Case, World
from serving.decide.entries import Entries, Plan
from serving.decide.person import EMPTY_PERSON
from serving.decide.results import Reasons
from serving.world.catalogue import ItemTable
from serving.world.tables import Tables

_ITEMS: Final = (
    ("hash", "uint64_t[]"), ("owner", "int32_t[]"), ("group", "int32_t[]"),
    ("next_variant", "int32_t[]"), ("published", "int64_t[]"), ("until", "int64_t[]"),
    ("in_catalogue", "uint8_t[]"), ("leads", "uint8_t[]"), ("titled", "uint8_t[]"),
    ("vectors", "float[]"), ("places", "int32_t[]"), ("category_hashes", "uint32_t[]"),
    ("category_keys", "uint32_t[]"), ("category_values", "int32_t[]"),
)  # fmt: skip
_NEIGHBOURS: Final = (
    ("starts", "int64_t[]"), ("lengths", "int32_t[]"), ("slots", "int32_t[]"),
    ("scores", "float[]"), ("forward", "uint16_t[]"), ("backward", "uint16_t[]"),
)  # fmt: skip


class Prepared:
    """Of one plan, for requests of one placement. It holds the arrays that it points to, but not the world:
    `forget` is called where a part of that is gone."""

    def __init__(
        self,
        world: World,
        ask: Ask,
        plan: Plan,
        entries: Entries,
        forget: Callable[[], object],
    ) -> None:
        assert kernel is not None
        self.plan, self._entries = plan, entries
        self._recipe = world.recipe  # nothing tells where a struct is gone
        self._world = [
            ref(part, lambda _: forget())
            for part in (world.release, world.items, world.tables, world.space)
            if part is not None
        ]
        self.placement = ask.placement
        new = kernel.ffi.new
        self.items, self.tables, self.space = (
            new("decision_items *"), new("decision_tables *"), new("decision_space *")
        )  # fmt: skip
        self._pointers: dict[Any, Any] = {}
        """All that the structs point to: an array lives as long as its pointer."""
        self._ranks: dict[int, tuple[Any, Any]] = {}
        self.reasons: Reasons = {}
        """Those that name an item or a category as it is called now."""
        self._revision, self._size, self._items_layout, self._tables_layout = -1, -1, -1, -1
        self._meta: Meta | None = None
        self._minute = -1
        self._explores = "explore" in self.plan.sources
        self._newest = "fresh" in self.plan.sources

    def renew(self, world: World, ask: Ask) -> None:
        """Follows what changed since the last request."""
        items, tables = world.items, world.tables
        if (
            items.revision != self._revision
            or tables.meta is not self._meta
            or items.size != self._size
            or tables.layout != self._tables_layout
        ):
            self._follow(world, ask)
        elif self._explores and ask.now // MINUTE_MS != self._minute:
            self._follow_minute(world, ask)

    def ranks(self, tables: Tables) -> Mapping[int, tuple[Any, Any]]:
        """Place of a source of popularity -> by slot the places in its order, for people with an interest and
        for strangers."""
        if not self._ranks:
            for source, (first, second) in self.plan.mixes.items():
                one = self._of("int32_t[]", tables.ranks(first))
                other = one if second == first else self._of("int32_t[]", tables.ranks(second))
                self._ranks[source] = (one, other)
        return self._ranks

    def _follow(self, world: World, ask: Ask) -> None:
        items, tables = world.items, world.tables
        if items.layout != self._items_layout or items.size != self._size:
            self._point_items(items)
            if world.space is not None:
                self._point_space(world)
        if tables.layout != self._tables_layout:
            self._point_tables(tables)
        self._count_items(items)
        if items.revision != self._revision:
            self.reasons.clear()
        self.tables.maxima = tables.maxima.tolist()
        arms = tables.arms(self.placement)
        served = arms.served if arms is not None else np.empty(0, np.uint32)
        self._point(self.tables, "served", "uint32_t[]", served)
        self.tables.n_served = len(served)
        if self._newest:
            newest, ages = items.newest()
            self._point(self.tables, "newest", "int32_t[]", newest)
            self._point(self.tables, "ages", "int64_t[]", ages)
            self.tables.n_newest = len(newest)
        self._order(tables)
        if self._explores:
            self._follow_minute(world, ask)
        self._revision, self._size, self._items_layout = items.revision, items.size, items.layout
        self._meta, self._tables_layout = tables.meta, tables.layout

    def _follow_minute(self, world: World, ask: Ask) -> None:
        slots = self._entries.least_served(Case(EMPTY_PERSON, world, ask))
        self._point(self.tables, "least_served", "int32_t[]", slots)
        self.tables.n_least_served = len(slots)
        self._minute = ask.now // MINUTE_MS

    def _order(self, tables: Tables) -> None:
        made, self._ranks = self.plan.struct, {}
        for at, mixes in self.plan.mixes.items():
            for stranger, mix in enumerate(mixes):
                order = tables.popular(mix)
                pointer = self._pointers[at, stranger] = self._of("int32_t[]", order)
                made.order[at][stranger], made.ordered[at][stranger] = pointer, len(order)

    def _point_items(self, items: ItemTable) -> None:
        made, memberships, groups = self.items, items.memberships, items.groups
        for name, kind in _ITEMS:
            self._point(made, name, kind, getattr(items, name))
        self._point(made, "category", "int32_t[]", memberships.primary)
        self._point(made, "member_starts", "int64_t[]", memberships.starts)
        self._point(made, "member_lengths", "int32_t[]", memberships.lengths)
        self._point(made, "member_pool", "int32_t[]", memberships.pool)
        self._point(made, "group_hashes", "uint64_t[]", groups.hashes)
        self._point(made, "group_firsts", "int32_t[]", groups.firsts)
        self._point(made, "group_sizes", "int32_t[]", groups.sizes)
        self._point(made, "group_places", "int32_t[]", groups.places)
        made.capacity = len(items.hash)
        made.places_mask, made.category_mask = items.places_mask, items.category_mask
        made.group_mask = groups.places_mask

    def _count_items(self, items: ItemTable) -> None:
        made = self.items
        made.size, made.count = items.size, items.count
        made.groups = len(items.groups.texts) if items.groups else 0
        made.categories = len(items.categories.texts)

    def _point_tables(self, tables: Tables) -> None:
        for name, kind in _NEIGHBOURS:
            array = getattr(tables.neighbours, name)
            # a float16 is read by its bits
            self._point(self.tables, name, kind, array.view(np.uint16) if "16" in kind else array)
        self._point(self.tables, "popularity", "double[]", tables.popularity)

    def _point_space(self, world: World) -> None:
        space = world.space
        assert space is not None
        own = space.release.space
        self._point(self.space, "vectors", "float[]", space.vectors)
        self._point(self.space, "hashes", "uint64_t[]", np.ascontiguousarray(own.hashes))
        vectors = np.ascontiguousarray(own.vectors, np.float32)
        self._point(self.space, "item_vectors", "float[]", vectors)
        self.space.items = len(own.hashes)

    def _point(self, struct: Any, name: str, kind: str, array: NDArray[Any]) -> None:
        pointer = self._pointers[id(struct), name] = self._of(kind, array)
        setattr(struct, name, pointer)

    @staticmethod
    def _of(kind: str, array: NDArray[Any]) -> Any:
        assert kernel is not None
        return kernel.ffi.from_buffer(kind, array)
