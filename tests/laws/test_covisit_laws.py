"""Lists of neighbours: made many at once they are those made one by one, byte for byte."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.aggregates import covisit
from models.aggregates.covisit import Pairs
from models.aggregates.pair_sums import parts
from models.arrays import U64
from schemas.state.counting import BUILT_IN, LAG_POWERS
from schemas.state.tables import NEIGHBOUR, PairCounting

COUNTINGS = [
    PairCounting(lag_power=power, backward=backward, gap=gap)  # type: ignore[arg-type]
    for power, backward, gap in itertools.product(LAG_POWERS, (0.0, 0.5, 1.0), ("session", "any"))
]


def made(seed: int) -> tuple[Pairs, U64]:
    """Pairs of up to 400 items with many equal sums, some faded away."""
    chance = np.random.default_rng(seed)
    n, count = int(chance.integers(1, 400)), int(chance.integers(0, 4_000))
    pairs = Pairs()
    for _ in range(2):
        i, j = chance.integers(0, n, count), chance.integers(0, n, count)
        i, j = i[i != j], j[i != j]
        lag = chance.choice(np.array([1, 2, 4, 16], np.uint8), len(i))
        time = chance.choice([-1e12, 1e5, 1.7e9, 1.7e9 + 7, 1.9e9], len(i))
        pairs.add(i, j, lag, chance.random(len(i)) < 0.5, time)
    hashes = np.unique(chance.integers(1, 1 << 63, 2 * n + 8, dtype=np.uint64))[:n]
    return pairs, chance.permutation(hashes)


def by_definition(pairs: Pairs, item: int, hashes: U64, counting: PairCounting) -> bytes:
    """The neighbours of one item by the definition."""
    power = LAG_POWERS.index(counting.lag_power)
    held = [pairs.session.settle(), pairs.beyond.settle()][: 1 + (counting.gap == "any")]
    both = np.zeros((2, len(hashes)))
    for keys, sums in held:
        for (a, b), sum_ in zip(
            np.stack(parts(keys), 1).tolist(), sums[power].tolist(), strict=True
        ):
            if a == item:
                both[0, b] += sum_
            if b == item:
                both[1, a] += sum_
    score = both[0] + counting.backward * both[1]
    partners = np.flatnonzero(score > 0)
    if not len(partners):
        return b""
    relative = (score[partners] / score.max()).astype(np.float32)
    best = partners[np.lexsort((hashes[partners], -relative))[: covisit.NEIGHBOURS_PER_ITEM]]
    total = score[best].sum()
    rows = np.empty(len(best), NEIGHBOUR)
    rows["item"], rows["score"] = hashes[best], score[best] / total
    for name, its in zip(("forward", "backward"), both[:, best] / total, strict=True):
        rows[name] = np.minimum(its, np.finfo(np.float16).max)
    return rows.tobytes()


@pytest.mark.parametrize("seed", range(24))
def test_lists_made_at_once_are_those_made_one_by_one(seed: int) -> None:
    """Of all items, and of some, whether new pairs are merged yet or not."""
    pairs, hashes = made(seed)
    counting = COUNTINGS[seed % len(COUNTINGS)]
    everything = np.arange(len(hashes))
    some = everything[:: 1 + seed % 5]
    lists = pairs.neighbours(everything, hashes, counting)
    few = pairs.neighbours(some, hashes, counting)
    checked = everything[:: 1 + len(everything) // 20].tolist()
    expected = {n: by_definition(pairs, n, hashes, counting) for n in checked}
    assert {n: lists[n] for n in checked} == expected
    assert few == [lists[n] for n in some.tolist()]
    assert pairs.neighbours(everything, hashes, counting) == lists


def test_who_has_no_partner_has_an_empty_list() -> None:
    none, counting = np.empty(0, np.int64), BUILT_IN.pairs
    assert Pairs().neighbours(none, np.empty(0, np.uint64), counting) == []
    assert Pairs().neighbours(np.zeros(1, np.int64), np.array([5], np.uint64), counting) == [b""]


def test_by_hand() -> None:
    """One person acts on 0, then 1, then 2, and again on 0 a week later; another on 1, then 0."""
    pairs, hashes = Pairs(), np.array([10, 11, 12], np.uint64)
    first, second = np.array([0, 1, 0, 2, 1, 1]), np.array([1, 2, 2, 0, 0, 0])
    lag = np.array([1, 1, 2, 1, 2, 1], np.uint8)
    within = np.array([True, True, True, False, False, True])
    pairs.add(first, second, lag, within, np.zeros(6))

    def of(lag_power: float, backward: float, gap: str) -> list[list[tuple[int, float]]]:
        counting = PairCounting(lag_power=lag_power, backward=backward, gap=gap)  # type: ignore[arg-type]
        lists = pairs.neighbours(np.arange(3), hashes, counting)
        rows = [np.frombuffer(held, NEIGHBOUR) for held in lists]
        return [[(int(r["item"]), round(float(r["score"]), 6)) for r in held] for held in rows]

    # 0 before 1: 1; 1 before 0: 1 within the session, .5 beyond; 0 before 2: .5; 2 before 0: 1 beyond
    assert of(1.0, 0.0, "session") == [[(11, 0.666667), (12, 0.333333)], [(10, 0.5), (12, 0.5)], []]
    assert of(1.0, 0.5, "session")[0] == [(11, 0.75), (12, 0.25)]
    assert of(1.0, 0.5, "any")[0] == [(11, round(1.75 / 2.75, 6)), (12, round(1 / 2.75, 6))]
    assert of(0.5, 0.0, "any")[1] == [
        (10, round((1 + 0.5**0.5) / (2 + 0.5**0.5), 6)),
        (12, round(1 / (2 + 0.5**0.5), 6)),
    ]
