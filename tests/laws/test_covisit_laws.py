"""Lists of neighbours: made many at once they are those made one by one, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from models.aggregates import covisit
from models.aggregates.covisit import Pairs
from models.arrays import U64
from schemas.state.tables import NEIGHBOUR


def made(seed: int) -> tuple[Pairs, U64]:
    """Pairs of up to 400 items with many equal sums, some of nothing, some faded away."""
    chance = np.random.default_rng(seed)
    n, count = int(chance.integers(1, 400)), int(chance.integers(0, 4_000))
    pairs = Pairs()
    for _ in range(2):
        i, j = chance.integers(0, n, count), chance.integers(0, n, count)
        i, j = i[i != j], j[i != j]
        weight = chance.choice([1.0, 0.5, 1 / np.sqrt(3), 0.0], len(i))
        time = chance.choice([1e5, 1.7e9, 1.7e9 + 7, 1.9e9], len(i))
        pairs.add(i, j, weight, time)
    hashes = np.unique(chance.integers(1, 1 << 63, 2 * n + 8, dtype=np.uint64))[:n]
    return pairs, chance.permutation(hashes)


def by_definition(pairs: Pairs, item: int, hashes: U64) -> bytes:
    """The neighbours of one item by the definition."""
    pairs.settle()
    its = pairs.keys >> np.uint64(32) == item
    partners, sums = (pairs.keys[its] & np.uint64(0xFFFF_FFFF)).astype(np.int64), pairs.sums[its]
    if not len(sums) or sums.max() <= 0:
        return b""
    relative = (sums / sums.max()).astype(np.float32)
    best = np.lexsort((hashes[partners], -relative))[: covisit.NEIGHBOURS_PER_ITEM]
    rows = np.empty(len(best), NEIGHBOUR)
    rows["item"], rows["score"] = hashes[partners[best]], sums[best] / sums[best].sum()
    return rows.tobytes()


@pytest.mark.parametrize("seed", range(60))
def test_lists_made_at_once_are_those_made_one_by_one(seed: int) -> None:
    """Of all items, and of some, whether new pairs are merged yet or not."""
    pairs, hashes = made(seed)
    everything = np.arange(len(hashes))
    some = everything[:: 1 + seed % 5]
    lists, few = pairs.neighbours(everything, hashes), pairs.neighbours(some, hashes)
    expected = [by_definition(pairs, n, hashes) for n in everything.tolist()]
    assert lists == expected
    assert few == [expected[n] for n in some.tolist()]
    assert pairs.neighbours(everything, hashes) == expected


def test_who_has_no_partner_has_an_empty_list() -> None:
    none = np.empty(0, np.int64)
    assert Pairs().neighbours(none, np.empty(0, np.uint64)) == []
    assert Pairs().neighbours(np.zeros(1, np.int64), np.array([5], np.uint64)) == [b""]
