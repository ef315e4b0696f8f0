"""The content index: exact, and the same whatever the order of insertion."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import content
from schemas.item import Item
from serving.catalogue import ItemTable
from serving.index import ContentIndex
from tests.unit.worlds import WORDS, catalogue

NOW = (("a", "love"), ("c", "river"))
few_words = st.lists(st.sampled_from(WORDS[:4]), max_size=2).map(" ".join)
small = st.lists(few_words, min_size=1, max_size=40)


def _index(items: list[Item], exact: int = 1000) -> ContentIndex:
    index = ContentIndex(ItemTable(capacity=4), exact)
    for item in items:
        index.items.put(item)
    index.refresh()
    return index


def _ids(index: ContentIndex, query: content.Vector, k: int) -> list[tuple[str, float]]:
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
def test_what_is_found_is_what_is_nearest(titles: list[str], k: int) -> None:
    items = [Item(item_id=f"i{n}", title=title) for n, title in enumerate(titles)]
    query = content.vector(Item(item_id="q", title=" ".join(WORDS[:3])))
    exact = {item.item_id: float(content.vector(item) @ query) for item in items}
    found = _ids(_index(items), query, k)
    assert all(similarity == exact[name] > 0 for name, similarity in found)
    left = [value for name, value in exact.items() if value > 0 and name not in dict(found)]
    # at the cut a tie may be left out whole, but nobody who is nearer
    assert not left or not found or max(left) <= min(similarity for _, similarity in found)
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


def test_above_the_limit_it_is_a_graph_that_finds_nearly_all() -> None:
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
