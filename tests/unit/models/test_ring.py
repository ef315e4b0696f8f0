"""The ring's fast ways agree with its slow definition, whichever a batch takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features import enter
from models.features.columns import Columns, Folded
from models.features.registry import ROW

BEGAN = 1_700_006_300_000
"""Not long before the end of a UTC day."""


def batch(rnd: np.random.Generator, people: int, spread: int) -> Columns:
    """Up to 9 actions a person, at times anywhere in `spread` minutes: equal and late ones."""
    who = np.sort(rnd.integers(0, people, int(rnd.integers(1, 9 * people))))
    n = len(who)
    return Columns(
        who=who,
        offset=np.arange(n),
        item=rnd.integers(1, 12, n).astype(np.uint64) << np.uint64(60),
        category=rnd.integers(0, 3, n).astype(np.uint32) << np.uint32(30),
        time=BEGAN + rnd.integers(0, spread, n) * 60_000,
        action=rnd.integers(0, 5, n).astype(np.uint8),
        session=np.zeros(n, np.uint64),
        identity=rnd.integers(1, 3, n).astype(np.uint32),
        flags=np.zeros(n, np.uint8),
        late=np.zeros(n, np.bool_),
        people=people,
    )


def folded(batches: list[Columns], people: int) -> tuple[NDArray[np.void], list[Folded]]:
    rows, folds = np.zeros(people, ROW), []
    for columns in batches:
        entered = np.ones(len(columns), np.bool_)
        folds.append(Folded(entered, columns, before=rows["n"].astype(np.int64)))
        enter.update(rows, columns, folds[-1])
    return rows, folds


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([2, 60, 5000]))
def test_updates_in_rounds_and_one_by_one_agree(seed: int, people: int, spread: int) -> None:
    """They agree in the bytes, and in the answer for each action."""
    rnd = np.random.default_rng(seed)
    batches = [batch(rnd, people, spread) for _ in range(12)]
    found = []
    for few in (1, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(enter, "MIN_PEOPLE_FOR_ROUNDS", few)
            found.append(folded(batches, people))
    (rounds, folds), (one_by_one, also) = found
    assert rounds.tobytes() == one_by_one.tobytes()
    for ours, theirs in zip(folds, also, strict=True):
        assert ours.met.tolist() == theirs.met.tolist()
        assert ours.repeats.tolist() == theirs.repeats.tolist()
        assert ours.evicted_who.tolist() == theirs.evicted_who.tolist()
        assert ours.evicted.tolist() == theirs.evicted.tolist()
