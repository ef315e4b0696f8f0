"""The list's fast ways agree with each other, whichever a batch takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features import disordered
from models.features.columns import Columns, Folded
from models.features.overflow import Overflow
from models.features.registry import ROW, fold
from models.features.ring import recent

BEGAN = 1_700_006_300_000
"""Not long before the end of a UTC day."""


def batch(rnd: np.random.Generator, people: int, spread: int) -> Columns:
    """Up to 9 actions a person, at times anywhere in `spread` minutes: equal, older and late ones."""
    who = np.sort(rnd.integers(0, people, int(rnd.integers(1, 9 * people))))
    n = len(who)
    return Columns(
        who=who,
        offset=np.arange(n),
        item=rnd.integers(1, 12, n).astype(np.uint64) << np.uint64(20),
        category=rnd.integers(0, 3, n).astype(np.uint32) << np.uint32(30),
        time=BEGAN + rnd.integers(0, spread, n) * 60_000,
        action=rnd.integers(0, 5, n).astype(np.uint8),
        session=rnd.integers(0, 3, n).astype(np.uint64),
        identity=rnd.integers(1, 3, n).astype(np.uint32),
        flags=np.zeros(n, np.uint8),
        late=rnd.random(n) < 0.1,
        people=people,
    )


def folded(
    batches: list[Columns], people: int
) -> tuple[NDArray[np.void], list[Folded], dict[int, list[tuple[bool, bytes]]]]:
    """The rows, what each batch gave, and the overflow of each person as it is stored."""
    rows, folds = np.zeros(people, ROW), []
    overflow: dict[int, Overflow] = {}
    stored: dict[int, list[tuple[bool, bytes]]] = {}
    for columns in batches:
        folds.append(fold(rows, columns, overflow))
        for person, held in overflow.items():
            stored.setdefault(person, []).append(held.changes()[:2])
    return rows, folds, stored


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([2, 60, 5000]))
def test_updates_in_rounds_and_one_by_one_agree(seed: int, people: int, spread: int) -> None:
    """They agree in the bytes, and in the answer for each action."""
    rnd = np.random.default_rng(seed)
    batches = [batch(rnd, people, spread) for _ in range(16)]
    found = []
    for few in (1, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disordered, "MIN_PEOPLE_FOR_ROUNDS", few)
            found.append(folded(batches, people))
    (rounds, folds, overflow), (one_by_one, also, likewise) = found
    acted = Counter(
        (int(who), int(item), int(time))
        for it in folds
        for who, item, time in zip(it.recent.who, it.recent.item, it.recent.time, strict=True)
    )
    gone = [it for fold in folds for it in zip(fold.evicted_who, fold.evicted, strict=True)]
    held = [(who, entry) for who in range(people) for entry in recent(rounds[who])]
    assert acted == Counter(
        (int(who), int(it["item"]), int(it["time"]) * 1000 + int(it["ms"]))
        for who, it in [*gone, *held]
    )
    assert rounds.tobytes() == one_by_one.tobytes()
    assert overflow == likewise
    for ours, theirs in zip(folds, also, strict=True):
        for name in ("met", "repeats", "full", "partners", "evicted_who", "evicted"):
            assert getattr(ours, name).tolist() == getattr(theirs, name).tolist(), name
