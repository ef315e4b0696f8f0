"""The choice of the coarse weights: on candidates whose columns are known to matter, or not to."""

from __future__ import annotations

import numpy as np
import pytest

from models.training.coarse import (
    MIN_VECTOR_WEIGHT,
    POPULAR_BY_WINDOW,
    Candidates,
    choose_weights,
    scored,
)
from schemas.state.counting import only

DEFAULT = {"covisit": 1.0, "content": 0.015, "popular": 0.006}
COLUMNS = ("covisit", "content", "vector", *POPULAR_BY_WINDOW)
SINGLES = ("covisit", "vector", *POPULAR_BY_WINDOW)
CHOICES, EACH = 120, 15


def candidates(column: str, noise: float = 0.05, people: int = CHOICES) -> Candidates:
    """The target is the best of its list by `column`; the others are random."""
    chance = np.random.default_rng(0)
    values = noise * chance.random((CHOICES, EACH, len(COLUMNS)), np.float32)
    own = chance.integers(0, EACH, CHOICES)
    values[np.arange(CHOICES), own, COLUMNS.index(column)] = 1.0
    return Candidates(
        COLUMNS,
        values.reshape(-1, len(COLUMNS)),
        np.full(CHOICES, EACH),
        np.arange(CHOICES) * EACH + own,
        np.arange(CHOICES) % people,
    )


def test_what_finds_the_choices_gets_the_weight() -> None:
    weights, mix = choose_weights(candidates("popular_7d"), DEFAULT, only("24h"), SINGLES)
    assert mix[2] > 0
    assert weights.get("popular", 0.0) > DEFAULT["popular"] or weights == {"popular_7d": 1.0}
    weights, _ = choose_weights(candidates("vector"), DEFAULT, only("24h"), SINGLES)
    assert weights == {"vector": 1.0} or weights["vector"] > MIN_VECTOR_WEIGHT


def test_the_default_stays_where_it_is_as_good() -> None:
    weights, mix = choose_weights(candidates("covisit"), DEFAULT, only("24h"), SINGLES)
    assert weights == {**DEFAULT, "vector": MIN_VECTOR_WEIGHT}
    assert mix == only("24h")
    alone, _ = choose_weights(candidates("popular_7d", people=1), DEFAULT, only("24h"), SINGLES)
    assert alone == {**DEFAULT, "vector": MIN_VECTOR_WEIGHT}  # one person decides nothing


def test_without_choices_or_candidates_the_default_stays() -> None:
    none = np.empty(0, np.int64)
    nothing = Candidates(COLUMNS, np.empty((0, len(COLUMNS)), np.float32), none, none, none)
    expected = {**DEFAULT, "vector": MIN_VECTOR_WEIGHT}, only("24h")
    assert choose_weights(nothing, DEFAULT, only("24h"), SINGLES) == expected
    empty = nothing._replace(size=np.zeros(3, np.int64), target=-np.ones(3, np.int64), person=none)
    missed = empty._replace(person=np.arange(3))
    assert choose_weights(missed, DEFAULT, only("24h"), SINGLES) == expected


def test_ranks_by_hand() -> None:
    of = Candidates(
        ("a", "b"),
        np.array([[1, 0], [2, 0], [3, 9], [0, 1], [1, 1]], np.float32),
        np.array([3, 0, 2]),
        np.array([1, -1, 4]),
        np.arange(3),
    )
    assert scored(of, {"a": 1.0}).optimistic.tolist() == [2, 0, 1]
    assert scored(of, {"b": -1.0, "other": 5.0}).optimistic.tolist() == [1, 0, 1]
    missed = of._replace(target=np.array([-1, -1, -1]))
    assert scored(missed, {"a": 1.0}).optimistic.tolist() == [0, 0, 0]


@pytest.mark.parametrize("mix", [only("1h"), (0.0, 1.0, 1.0, 0.0)])
def test_the_window_asked_for_is_kept_where_popularity_does_not_matter(
    mix: tuple[float, ...],
) -> None:
    assert choose_weights(candidates("covisit"), DEFAULT, mix, SINGLES)[1] == mix


def test_a_column_that_is_nothing_finds_nothing() -> None:
    """Equal scores are counted in expectation: a source that scores nobody is not the best one."""
    of = candidates("covisit", noise=0.3)
    of.values[:, COLUMNS.index("popular_1h")] = 0.0
    weights, _ = choose_weights(of, DEFAULT, only("24h"), SINGLES)
    assert "covisit" in weights
    assert scored(of, {"popular_1h": 1.0}).equal.tolist() == [EACH - 1] * CHOICES
