"""Content vectors: exact products on a grid, and similarity of like items."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.release import content
from schemas.items import Item

texts = st.text(st.characters(codec="utf-8"), max_size=30)
items = st.builds(
    Item,
    item_id=st.just("i"),
    title=texts,
    category=texts,
    categories=st.lists(texts, max_size=3).map(tuple),
    tags=st.lists(texts, max_size=3).map(tuple),
)


@given(items)
def test_a_vector_lies_on_the_grid_and_has_norm_1_or_is_zero(item: Item) -> None:
    vector = content.vector(item)
    steps = vector.astype(np.float64) * content.GRID
    assert vector.dtype == np.float32
    assert vector.shape == (content.DIM,)
    assert (steps == np.rint(steps)).all()
    norm = float(np.sqrt((vector.astype(np.float64) ** 2).sum()))
    assert not vector.any() or abs(norm - 1) < 8 / content.GRID


@given(st.lists(items, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_products_are_exact_in_any_order_of_the_sum(many: list[Item], random: object) -> None:
    vectors = np.array([content.vector(item) for item in many])
    query = content.person_vector(vectors, np.arange(1.0, len(many) + 1))
    exact = vectors.astype(np.float64) @ query.astype(np.float64)
    turned = np.random.default_rng(0).permutation(content.DIM)
    assert (vectors @ query == exact.astype(np.float32)).all()
    assert (vectors[:, turned] @ query[turned] == vectors @ query).all()


def test_items_alike_are_nearer_than_items_that_differ() -> None:
    alien = content.vector(Item(item_id="a", title="Alien", category="horror"))
    aliens = content.vector(Item(item_id="b", title="Aliens of Alien", category="horror"))
    romance = content.vector(Item(item_id="c", title="Notting Hill", category="romance"))
    assert alien @ aliens > 0.7 > 0.5 > abs(float(alien @ romance))


def test_an_item_without_content_has_the_zero_vector() -> None:
    assert not content.vector(Item(item_id="i", title="The of and")).any()
    assert not content.person_vector(np.zeros((0, content.DIM), np.float32), np.zeros(0)).any()


def test_the_primary_category_comes_first_and_once() -> None:
    item = Item(item_id="i", category="b", categories=("a", "b"))
    assert content.categories(item) == ("b", "a")


def test_of_a_longer_title_than_the_edge_takes_the_start_counts() -> None:
    start = "é" * 500 + " alien"
    for more in ("", " é" * 9, " romance" * 50_000):
        title = start + more
        assert content.head(title) == title.encode()[:1024].decode(errors="ignore")
    whole = content.vector(Item(item_id="i", title=content.head(start + " romance" * 50_000)))
    assert (content.vector(Item(item_id="i", title=start + " romance" * 50_000)) == whole).all()
    assert content.head("x" * 1024) == "x" * 1024
