"""The exact search of our own finds what USearch finds where that is exact, whatever becomes of the items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.kernels.loading import Kernel, kernel
from models.release import content
from models.release.release import NO_SPACE, Release, Space
from schemas.identity import item_hash
from schemas.items import Item
from serving.world import scan
from serving.world.catalogue import ItemTable
from serving.world.index import MAX_FOUND, SCAN, USEARCH, ContentIndex, SpaceIndex
from serving.world.scan import BLOCK, Scan, nearest, nearest_by_numpy
from tests.support.worlds import WORDS, catalogue, release

COMPILED = [None] if kernel is None else [None, kernel]
QUERY = content.vector(Item(item_id="q", title=" ".join(WORDS[:3])))


def rows_of(seed: int, n: int, distinct: int) -> NDArray[np.int16]:
    """n vectors on the grid, of which at most so many differ; some are zero."""
    rng = np.random.default_rng(seed)
    few = content.rows_on_grid(rng.integers(-2, 3, (distinct, content.DIM)).astype(np.float64))
    few[rng.random(distinct) < 0.1] = 0
    return (few[rng.integers(0, distinct, n)] * content.GRID).astype(np.int16)


@pytest.mark.skipif(kernel is None, reason="no kernel")
@settings(deadline=None)
@given(st.integers(0, 999), st.integers(0, 12), st.integers(1, 40), st.integers(1, 300))
@example(0, 3, 1, 5)
def test_the_kernel_finds_what_numpy_finds(seed: int, blocks: int, distinct: int, k: int) -> None:
    assert kernel is not None
    n, rng = blocks * BLOCK, np.random.default_rng(seed)
    rows, slots = rows_of(seed, n, distinct), rng.permutation(n).astype(np.int32)
    hashes = rng.integers(0, 2**64, max(n, 1), np.uint64)
    for query in (rows_of(seed + 1, 1, 1)[0], np.full(content.DIM, 32767, np.int16)):
        expected = nearest_by_numpy(rows, slots, hashes, query, k)
        assert nearest(kernel, rows, slots, hashes, query, k).tolist() == expected.tolist()


@pytest.mark.skipif(kernel is None, reason="no kernel")
def test_arrays_of_another_shape_are_refused() -> None:
    assert kernel is not None
    rows, slots, hashes = rows_of(1, 16, 3), np.zeros(16, np.int32), np.zeros(1, np.uint64)
    for some, of, query in (
        (rows[:15], slots, rows[0]),
        (rows[:8], slots[:8], rows[0]),
        (rows[:, :8].copy(), slots, rows[0]),
        (rows, slots, rows[0, :8].copy()),
    ):
        with pytest.raises(ValueError, match="64 coordinates"):
            nearest(kernel, some, of, hashes, query, 3)


few_words = st.lists(st.sampled_from(WORDS[:4]), max_size=2).map(" ".join)
steps = st.lists(
    st.tuples(st.integers(0, 30), st.none() | few_words, st.sampled_from(["", "g1", "g2"])),
    max_size=60,
)


@pytest.mark.parametrize("compiled", COMPILED)
@settings(max_examples=40, deadline=None)
@given(changes=steps, every=st.integers(1, 9), k=st.integers(1, 40), data=st.data())
def test_a_scan_finds_what_usearch_finds(
    compiled: Kernel | None,
    changes: list[tuple[int, str | None, str]],
    every: int,
    k: int,
    data: st.DataObject,
) -> None:
    table = ItemTable(capacity=4)
    by_usearch, by_scan = ContentIndex(table, 1000), ContentIndex(table, 1000, SCAN)
    by_scan._index = Scan(compiled)
    for n, (number, title, group) in enumerate(changes):
        if title is None:
            table.drop(f"i{number}")
        else:
            table.put(Item(item_id=f"i{number}", title=title, group_id=group))
        if n % every == 0:
            by_usearch.refresh()
            by_scan.refresh(limit=data.draw(st.integers(1, 3)))
    by_usearch.refresh()
    while not by_scan.refresh(limit=2):
        pass
    assert len(by_scan) == len(by_usearch)
    titles = data.draw(st.lists(few_words, max_size=3))
    for query in (QUERY, -QUERY, *(content.vector(Item(item_id="", title=it)) for it in titles)):
        found, expected = by_scan.search(query, k), by_usearch.search(query, k)
        assert found.slots.tolist() == expected.slots.tolist()
        assert found.similarity.tolist() == expected.similarity.tolist()
        assert found.similarity.dtype == expected.similarity.dtype
        assert found.slots.dtype == expected.slots.dtype


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 200))
def test_a_scan_of_a_space_finds_what_usearch_finds(seed: int, k: int) -> None:
    items, table = catalogue(120, 3, seed), ItemTable()
    for item in items:
        table.put(item)
    made = release(items, seed)
    found = {}
    for retrieval in (USEARCH, SCAN):
        index = SpaceIndex(table, made, 1000, retrieval)
        while not index.refresh(limit=50):
            pass
        results = [index.search(query, k) for query in made.space.vectors[:9]]
        found[retrieval] = [(it.slots.tolist(), it.similarity.tolist()) for it in results]
    assert found[SCAN] == found[USEARCH]


@pytest.mark.parametrize("retrieval", [USEARCH, SCAN])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 0.0])
def test_what_is_no_vector_is_not_in_an_index(retrieval: str, broken: float) -> None:
    def encode(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        encoded = vectors.copy()
        encoded[:1] = broken
        return encoded

    table, space = ItemTable(), Space(NO_SPACE.hashes, NO_SPACE.vectors, encode)
    made = replace(Release("r", (), {}, NO_SPACE), space=space)
    index = SpaceIndex(table, made, 1000, retrieval)
    for name in "abc":
        table.put(Item(item_id=name, title="red river"))
    index.refresh()
    assert len(index) == 2
    assert not index.vectors[table.slot(item_hash("a"))].any()
    query = content.vector(Item(item_id="q", title="red"))
    near = index.search(query, 10).slots
    assert sorted(table.ids[slot] for slot in near.tolist()) == ["b", "c"]


@pytest.mark.parametrize("k", [0, -1, MAX_FOUND + 1])
def test_a_search_for_none_or_too_many_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        ContentIndex(ItemTable(), 10, SCAN).search(QUERY, k)


def test_a_row_that_is_free_is_taken_again() -> None:
    held, vectors = Scan(), np.zeros((40, content.DIM), np.float32)
    vectors[:, 1] = 1
    for _ in range(9):
        held.replace(np.arange(1, 41, dtype=np.int32), vectors)
        held.replace(np.arange(5, 41, dtype=np.int32), np.zeros((36, content.DIM), np.float32))
        assert len(held) == 4
    assert len(held.rows) == 64
    assert np.iinfo(np.int16).max == scan.MAX_COORDINATE
