"""Assignment to variants is even, independent between salts, and stable."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency

from models.experiments.assignment import BUCKETS, assign, bucket, buckets
from schemas.alphabet import Pseudonym
from schemas.control import Experiment, Variant

_DRAW = random.Random(20261123)
PEOPLE = [Pseudonym(f"01{_DRAW.getrandbits(120):030x}") for _ in range(100_000)]


def experiment(*shares: float, salt: str = "") -> Experiment:
    variants = tuple(Variant(name=f"v{n}", share=share) for n, share in enumerate(shares))
    return Experiment(placement="home", variants=variants, salt=salt)


def test_people_spread_evenly_over_the_buckets() -> None:
    """Pearson's chi-square over all buckets, and over the people's own order of the pseudonyms."""
    found = np.array([bucket("home-ranker", person) for person in PEOPLE])
    assert found.min() >= 0
    assert found.max() < BUCKETS
    counts = np.bincount(found, minlength=BUCKETS)
    statistic = ((counts - 10) ** 2 / 10).sum()
    assert 1e-4 < chi2.sf(statistic, BUCKETS - 1) < 1 - 1e-4
    # ids that count up are no worse: people do not come out of a generator everywhere
    found = np.array([bucket("home-ranker", str(n)) for n in range(100_000)])
    statistic = ((np.bincount(found // 100, minlength=100) - 1000) ** 2 / 1000).sum()
    assert 1e-4 < chi2.sf(statistic, 99) < 1 - 1e-4


def test_two_salts_assign_independently() -> None:
    """Independence of the tenths that people are in (10 x 10, 81 degrees of freedom)."""
    table = np.zeros((10, 10))
    for person in PEOPLE:
        table[bucket("first", person) // 1000, bucket("second", person) // 1000] += 1
    assert 1e-4 < chi2_contingency(table).pvalue < 1 - 1e-4


def test_the_salt_is_the_id_unless_another_is_given() -> None:
    halves, other = experiment(0.5, 0.5), experiment(0.5, 0.5, salt="again")
    same = experiment(0.5, 0.5, salt="x")
    some = PEOPLE[:2000]
    assert [assign("x", halves, p) for p in some] == [assign("y", same, p) for p in some]
    moved = sum(assign("x", halves, p) != assign("x", other, p) for p in some)
    assert 900 < moved < 1100


@given(st.integers(2, 10), st.data())
def test_ranges_lie_side_by_side_and_never_overlap(n: int, data: st.DataObject) -> None:
    shares = [data.draw(st.floats(1e-4, 1 / n)) for _ in range(n)]
    some, whole = experiment(*shares), experiment(*[1 / n] * n)
    for i in range(n):
        mine, own = buckets(some, i), buckets(whole, i)
        assert mine.start == own.start
        assert mine.stop <= own.stop
        assert abs(len(mine) - shares[i] * BUCKETS) < 1.5
    every = [buckets(whole, i) for i in range(n)]
    assert (every[0].start, every[-1].stop) == (0, BUCKETS)
    assert all(one.stop == next_.start for one, next_ in pairwise(every))


@given(st.integers(2, 10), st.data())
def test_widening_a_share_moves_no_person_from_one_variant_to_another(
    n: int, data: st.DataObject
) -> None:
    small = [data.draw(st.floats(1e-4, 1 / n)) for _ in range(n)]
    large = [data.draw(st.floats(share, 1 / n)) for share in small]
    before, after = experiment(*small), experiment(*large)
    for person in PEOPLE[:200]:
        had = assign("x", before, person)
        has = assign("x", after, person)
        assert had is None or (has is not None and has.name == had.name)


def test_a_share_of_the_people_gets_a_variant() -> None:
    found = [assign("x", experiment(0.1, 0.3), person) for person in PEOPLE]
    named = [variant.name if variant else "" for variant in found]
    # five standard deviations of a binomial of 100,000
    assert abs(named.count("v0") - 10_000) < 5 * 95
    assert abs(named.count("v1") - 30_000) < 5 * 145


@pytest.mark.parametrize(
    ("at", "variant"),
    [
        (0, "v0"),
        (999, "v0"),
        (1000, None),
        (3332, None),
        (3333, "v1"),
        (6665, "v1"),
        (6666, "v2"),
        (6667, None),
        (9999, None),
    ],
)
def test_three_variants_by_hand_get_their_shares(at: int, variant: str | None) -> None:
    """Of three, variants start at 0, 3333 and 6666: a tenth, all of its own third, one bucket."""
    three = experiment(0.1, 1 / 3, 0.0001)
    person = next(person for person in PEOPLE if bucket("x", person) == at)
    found = assign("x", three, person)
    assert (found.name if found else None) == variant


def test_a_bucket_by_hand_is_its_blake2b_hash() -> None:
    """``printf 'x\\0p' | b2sum -l 64`` says 90e982407e309c79: its bytes, the least first."""
    assert bucket("x", "p") == 0x799C307E4082E990 % 10_000 == 6432
