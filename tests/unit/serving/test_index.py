"""The indexes: exact, the same whatever the order of insertion, each as current as its last refresh."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.release import content
from schemas.identity import item_hash
from schemas.items import Item
from serving.world.catalogue import ItemTable
from serving.world.index import ContentIndex, SpaceIndex, VectorIndex
from tests.support.worlds import WORDS, catalogue, release

NOW = (("a", "love"), ("c", "river"))
few_words = st.lists(st.sampled_from(WORDS[:4]), max_size=2).map(" ".join)
small = st.lists(few_words, min_size=1, max_size=40)


def _index(items: list[Item], exact: int = 1000) -> ContentIndex:
    index = ContentIndex(ItemTable(capacity=4), exact)
    for item in items:
        index.items.put(item)
    index.refresh()
    return index


def _ids(index: VectorIndex, query: content.Vector, k: int) -> list[tuple[str, float]]:
    found = index.search(query, k)
    near = zip(found.slots.tolist(), found.similarity.tolist(), strict=True)
    return [(index.items.ids[slot], similarity) for slot, similarity in near]


@settings(max_examples=60, deadline=None)
@given(small, st.integers(1, 50), st.randoms(use_true_random=False))
def test_the_order_of_insertion_decides_nothing(titles: list[str], k: int, random) -> None:  # type: ignore[no-untyped-def]
    items = [Item(item_id=f"i{n}", title=title) for n, title in enumerate(titles)]
    query = content.vector(Item(item_id="q", title=" ".join(WORDS[:3])))
    found = _ids(_index(items), query, k)
    random.shuffle(items)
    assert _ids(_index(items), query, k) == found


@settings(max_examples=60, deadline=None)
@given(small, st.integers(1, 50))
def test_a_search_finds_the_nearest(titles: list[str], k: int) -> None:
    items = [Item(item_id=f"i{n}", title=title) for n, title in enumerate(titles)]
    query = content.vector(Item(item_id="q", title=" ".join(WORDS[:3])))
    exact = {item.item_id: float(content.vector(item) @ query) for item in items}
    found = _ids(_index(items), query, k)
    assert all(similarity == exact[name] > 0 for name, similarity in found)
    missed = [value for name, value in exact.items() if value > 0 and name not in dict(found)]
    # equal distances at the cut may be absent, but no nearer item
    assert not missed or not found or max(missed) <= min(similarity for _, similarity in found)
    assert bool(found) == any(value > 0 for value in exact.values())


def test_changed_and_dropped_items_are_found_as_they_are_now() -> None:
    index = _index([Item(item_id="a", title="red river"), Item(item_id="b", title="red river")])
    query = content.vector(Item(item_id="q", title="red river"))
    assert {name for name, _ in _ids(index, query, 5)} == {"a", "b"}
    index.items.put(Item(item_id="a", title="love"))
    index.items.drop("b")
    index.items.put(Item(item_id="c", title="river"))
    index.refresh()
    found = dict(_ids(index, query, 5))
    exact = {name: content.vector(Item(item_id=name, title=t)) @ query for name, t in NOW}
    assert found == {name: value for name, value in exact.items() if value > 0}
    assert len(index) == 2


def test_above_the_limit_the_index_is_a_graph_that_finds_nearly_all() -> None:
    items = catalogue(1500, 5, seed=1)
    exact, graph = _index(items, 2000), _index(items, 100)
    shares = []
    for item in items[:30]:
        query = content.vector(item)
        near = dict.fromkeys(exact.search(query, 50).slots.tolist(), 1)
        shares.append(np.mean([slot in near for slot in graph.search(query, 40).slots.tolist()]))
    assert np.mean(shares) > 0.9


def test_an_empty_index_finds_nothing() -> None:
    index = _index([])
    assert not len(index.search(content.vector(Item(item_id="q", title="red")), 5).slots)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_a_space_has_its_own_vectors_and_encodes_the_rest(seed: int, limit: int) -> None:
    items = catalogue(40, 3, seed)
    made = release(items[:20], seed)
    table = ItemTable(capacity=4)
    by_content, by_space = ContentIndex(table, 1000), SpaceIndex(table, made, 1000)
    for n, item in enumerate(items):
        table.put(item)
        if n % 7 == 0:  # several follow one table, each at its own pace
            by_content.refresh()
        if n % 5 == 0:
            by_space.refresh(limit=limit)
    table.drop("i3")
    before = len(by_space)
    while not by_space.refresh(limit=limit):
        assert len(by_space) <= before + limit
        before = len(by_space)
    by_content.refresh()
    held = [item for item in items if item.item_id != "i3"]
    worded = [item for item in held if content.vector(item).any()]
    assert len(by_content) == len(worded)
    assert not by_space.vectors[table.slot(item_hash("i3"))].any()
    rows = made.space.find(np.array([item_hash(item.item_id) for item in held], np.uint64))
    exact = {}
    for item, row in zip(held, rows.tolist(), strict=True):
        own = made.space.vectors[row] if row >= 0 else None
        vector = made.space.encode(content.vector(item)[None])[0] if own is None else own
        exact[item.item_id] = float(vector @ made.space.vectors[0]) if len(made.space.hashes) else 0
        assert (by_space.vectors[table.find(item.item_id)] == vector).all()
    if len(made.space.hashes):
        found = dict(_ids(by_space, made.space.vectors[0], 100))
        assert found == {name: value for name, value in exact.items() if value > 0}


def test_the_space_has_vectors_of_items_outside_the_catalogue() -> None:
    items = catalogue(10, 2, 1)
    made = release(items, 1, share=1.0)
    index = SpaceIndex(ItemTable(), made, 1000)
    index.items.put(items[0])
    index.items.put(Item(item_id="new", title="red river"))
    index.refresh()
    hashes = np.array([item_hash(name) for name in ("i0", "i1", "new", "nobody")], np.uint64)
    vectors = made.space.vectors[made.space.find(hashes[:2])]
    encoded = made.space.encode(content.vector(Item(item_id="new", title="red river"))[None])
    found = index.vectors_of(hashes)
    assert (found[:2] == vectors).all()
    assert (found[2] == encoded[0]).all()
    assert not found[3].any()
    assert index.version == "r1@0"


def test_a_large_space_is_a_graph_from_the_start_and_built_in_rounds() -> None:
    items = catalogue(1500, 5, seed=1)
    made, table = release(items, 1), ItemTable()
    for item in items:
        table.put(item)
    exact, graph = SpaceIndex(table, made, 2000), SpaceIndex(table, made, 100)
    exact.refresh()
    rounds = 1
    while not graph.refresh(limit=400):
        rounds += 1
    assert rounds == 4
    assert len(graph) == len(exact)
    near = [
        len(np.intersect1d(exact.search(v, 50).slots, graph.search(v, 40).slots))
        for v in made.space.vectors[:30]
    ]
    assert np.mean(near) > 36
