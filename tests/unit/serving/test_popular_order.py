"""The order by popularity, made of the one before, is that of a whole sort; so are the maxima."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.identity import item_hash
from schemas.items import Item
from schemas.state.counting import Mix, only
from schemas.state.tables import WINDOWS, Meta, Published
from serving.world.catalogue import ItemTable, Slots
from serving.world.tables import Tables

MIXES: tuple[Mix, ...] = (only("7d"), (0.0, 1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 2.5))
values = st.sampled_from([0.0, 0.25, 1.0, 3.0])
step = st.one_of(
    st.tuples(st.integers(0, 20), st.sampled_from([None, 1, 5, 5_000])),
    st.dictionaries(st.integers(0, 25), st.tuples(*[values] * len(WINDOWS)), min_size=1),
    st.integers(0, 20),
)


def by_whole_sort(tables: Tables, mix: Mix) -> Slots:
    items = tables.items
    slots = np.flatnonzero(items.in_catalogue)
    windows = np.flatnonzero(mix)
    wanted = tables.popularity[slots, windows[0]]
    if len(windows) > 1:
        wanted = tables.share(slots.astype(np.int32), mix)
    newest = -items.published[slots].astype(np.float64)
    return slots[np.lexsort((items.hash[slots], newest, -wanted))].astype(np.int32)


@settings(deadline=None)
@given(st.lists(step, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40))
def test_an_order_made_of_the_one_before_is_that_of_a_whole_sort(
    steps: list[tuple[int, int | None] | dict[int, tuple[float, ...]] | int], asked: list[bool]
) -> None:
    tables = Tables(ItemTable(capacity=2))
    for version, (change, asks) in enumerate(zip(steps, asked, strict=False), 1):
        if isinstance(change, int):
            tables.items.drop(f"i{change}")
        elif isinstance(change, tuple):
            tables.items.put(Item(item_id=f"i{change[0]}", published_at=change[1]))
        else:
            rows = {item_hash(f"i{n}"): np.array(row).tobytes() for n, row in change.items()}
            meta = Meta(version=version, positions=[version], landmarks=[0.0] * len(WINDOWS))
            tables.apply(Published(meta=meta, neighbours={}, popularity=rows))
        highest = tables.popularity.max(axis=0)
        assert tables.maxima.tolist() == np.where(highest > 0, highest, 1).tolist()
        for mix in MIXES if asks else MIXES[:1]:
            assert tables.popular(mix).tolist() == by_whole_sort(tables, mix).tolist()
            ranks = tables.ranks(mix)[tables.popular(mix)]
            assert ranks.tolist() == list(range(tables.items.count))
