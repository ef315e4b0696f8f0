"""The kernel's lists of neighbours are those of numpy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregates import covisit, pair_sums
from models.aggregates.covisit import Pairs
from models.arrays import I64, U64
from models.kernels.loading import kernel
from schemas.state.counting import LAG_POWERS, Counting

pytestmark = pytest.mark.skipif(kernel is None, reason="no compiled kernel")
countings = st.builds(
    Counting,
    lag_power=st.sampled_from(LAG_POWERS),
    backward=st.sampled_from([0.0, 0.3, 1.0]),
    gap=st.sampled_from(["session", "any"]),
)


def filled(pairs: Pairs, rng: np.random.Generator, items: int, many: int, few_terms: bool) -> None:
    """Adds pairs of people who act more on some items than on others. `few_terms`: many equal scores."""
    first, second = (items * rng.random((2, many)) ** 2).astype(np.int64)
    there = first != second
    lag = rng.integers(1, 3 if few_terms else 11, many).astype(np.uint8)
    time = np.zeros(many) if few_terms else rng.integers(0, 2**31, many).astype(np.float64)
    within = rng.random(many) < 0.5
    pairs.add(*(column[there] for column in (first, second, lag, within, time)))


def assert_alike(pairs: Pairs, items: I64, hashes: U64, counting: Counting) -> None:
    found = [
        [np.concatenate(its).tobytes() for its in zip(*made, strict=True)]
        for made in (
            pairs.best(items, hashes, counting.pairs),
            pairs.best_by_numpy(items, hashes, counting.pairs),
        )
    ]
    assert found[0] == found[1]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 150),
    st.lists(st.integers(0, 400), min_size=1, max_size=4),
    st.booleans(),
    countings,
)
def test_the_kernel_finds_the_partners_that_numpy_finds(
    seed: int, many: int, rounds: list[int], few_terms: bool, counting: Counting
) -> None:
    rng, pairs = np.random.default_rng(seed), Pairs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_sums, "MIN_NEW_ROWS", 3)  # several levels
        patch.setattr(covisit, "PAIRS_AT_ONCE", 500)
        patch.setattr(covisit, "MAX_LISTS_AT_ONCE", 40)
        for acts in rounds:
            filled(pairs, rng, many, acts, few_terms)
            len(pairs)
        hashes = rng.permutation(np.arange(1, many + 1, dtype=np.uint64) << np.uint64(40))
        items = np.sort(rng.permutation(many)[: rng.integers(1, many + 1)])
        assert_alike(pairs, items, hashes, counting)


def test_an_item_with_more_partners_than_a_list_and_one_with_none() -> None:
    rng, pairs = np.random.default_rng(0), Pairs()
    filled(pairs, rng, 300, 20_000, few_terms=True)
    hashes = rng.integers(1, 2**63, 302).astype(np.uint64)
    for counting in (Counting(), Counting(gap="session", backward=0.0)):
        assert_alike(pairs, np.array([0, 1, 299, 300, 301]), hashes, counting)
    many = next(pairs.best(np.array([0, 301]), hashes, Counting().pairs)).many
    assert many.tolist() == [covisit.NEIGHBOURS_PER_ITEM, 0]
