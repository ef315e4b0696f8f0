"""A world without a server: decides in process as a server does, from the same values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from models.release.release import Release
from schemas.control import Recipe
from schemas.items import Item
from schemas.state.tables import Meta
from serving.decide.case import World
from serving.world.catalogue import ItemTable
from serving.world.filters import Filters
from serving.world.index import USEARCH, ContentIndex, SpaceIndex
from serving.world.placements import DEFAULT_RECIPE
from serving.world.tables import EMPTY_META, Tables


def world(
    items: Iterable[Item],
    meta: Meta = EMPTY_META,
    neighbours: Mapping[int, bytes] | None = None,
    popularity: Mapping[int, bytes] | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
    *,
    release: Release | None = None,
    exact: int = 20_000,
    retrieval: str = USEARCH,
) -> World:
    """A world of the catalogue and one whole version of the tables, as `schemas.state.tables` has them.

    The order of `items` and of the mappings does not matter. Go on to later versions with
    ``world.tables.apply`` and to later items with ``world.items.put`` and the ``refresh`` of
    ``world.index`` and, where there is a release, of ``world.space``.
    """
    table = ItemTable()
    for item in items:
        table.put(item)
    tables = Tables(table)
    tables.load(meta, neighbours or {}, popularity or {})
    index = ContentIndex(table, exact, retrieval)
    index.refresh()
    space = SpaceIndex(table, release, exact, retrieval) if release is not None else None
    if space is not None:
        space.refresh()
    return World(table, Filters(table), tables, index, recipe, "offline", release, space)
