"""Published rows of items that the catalogue lacks: no slot, and all of it once the item comes."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.identity import category_hash, item_hash
from schemas.items import Item
from schemas.state.counting import only
from schemas.state.tables import ARM, ARM_KEY, NEIGHBOUR, Meta, Published
from serving.world import unplaced
from serving.world.catalogue import ItemTable
from serving.world.tables import Tables

META = Meta(version=1, positions=[1], landmarks=[0.0] * 4)


def listed(*items: str) -> bytes:
    rows = [(item_hash(item), 1 / len(items), 0.5, 0.25) for item in items]
    return np.array(rows, NEIGHBOUR).tobytes()


def published() -> Published:
    key = np.array([(category_hash("home"), item_hash("b"))], ARM_KEY).tobytes()
    arm = np.zeros(1, ARM)
    arm["served"] = 7
    return Published(
        meta=META,
        neighbours={item_hash("a"): listed("b", "c"), item_hash("b"): listed("a")},
        popularity={
            item_hash("a"): np.ones(4).tobytes(),
            item_hash("b"): np.full(4, 2.0).tobytes(),
        },
        arms={key: arm.tobytes()},
    )


def plain(held: Tables) -> dict[str, object]:
    """Everything by item id."""
    ids = held.items.ids
    home = held.arms("home")
    return {
        "lists": {
            ids[owner]: [
                (ids[slot], *row) for slot, *row in zip(*held.neighbours.get(owner), strict=True)
            ]
            for owner in held.neighbours.owners().tolist()
        },
        "popular": {ids[s]: held.popularity[s].tolist() for s in range(1, held.items.size)},
        "served": {
            ids[s]: int(home.served[s]) if home and s < len(home.served) else 0
            for s in range(1, held.items.size)
        },
        "maxima": held.share(np.arange(1, held.items.size, dtype=np.int32), only("1h")).tolist(),
    }


@pytest.mark.parametrize("order", ["abc", "cab", "bca", "acb"])
def test_an_item_put_after_its_rows_has_them_as_if_it_had_been_there(order: str) -> None:
    early, late = Tables(ItemTable()), Tables(ItemTable())
    for name in order:
        early.items.put(Item(item_id=name))
    early.apply(published())
    for name in order[:1]:
        late.items.put(Item(item_id=name))
    late.apply(published())
    assert late.items.size == 2
    for name in order[1:]:
        late.items.put(Item(item_id=name))
    assert plain(early) == plain(late)


def test_rows_without_an_item_take_no_slots_and_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unplaced, "MAX_ROWS", 5)
    held = Tables(ItemTable())
    held.items.put(Item(item_id="a"))
    for n in range(20):
        popularity = {item_hash(f"x{n}"): np.ones(4).tobytes()}
        neighbours = {item_hash(f"x{n}"): listed("a"), item_hash("a"): listed(f"x{n}")}
        held.apply(Published(meta=META, neighbours=neighbours, popularity=popularity))
    assert held.items.size == 2
    rows = [held.unplaced.take(item_hash(f"x{n}")) for n in range(20)]
    assert [n for n, it in enumerate(rows) if it.popularity] == [15, 16, 17, 18, 19]
