"""The weights of the coarse score and the windows of popularity, chosen on history.

A choice has the candidates of its scene, with a column for each part of the coarse score. As for the
counting (`models.training.counting`), one setting after the other takes the best value, where it wins by the
one-standard-error rule; last comes each single source, alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import F64, I64
from models.evaluation.choices import Scored, compared, expected
from models.training.counting import (
    MAX_RANK_COUNTED,
    MIXES,
    STANDARD_ERRORS,
    STANDARD_ERRORS_OF_MIXES,
    winner,
)
from schemas.state.counting import Mix
from schemas.state.tables import WINDOWS

POPULAR_BY_WINDOW: Final = tuple(f"popular_{window}" for window in WINDOWS)
"""Columns of popularity, one a window."""
MIN_VECTOR_WEIGHT: Final = 0.0025
"""It hardly moves the order, and brings the ranker the candidates of the vectors."""
VALUES: Final[Mapping[str, tuple[Any, ...]]] = {
    "mix": MIXES,
    "popular": (0.006, 0.02, 0.06, 0.2),
    "vector": (MIN_VECTOR_WEIGHT, 0.005, 0.01, 0.02, 0.04),
}
"""The values of each setting that are tried."""


class Candidates(NamedTuple):
    """The candidates of n choices, those of one after those of the other: `values` (rows, C), a column for
    each of `columns`; `size` (n,) rows of each choice; `target` (n,) the row of the item chosen, counted from
    the first of all, -1 where it is none; `person` (n,)."""

    columns: tuple[str, ...]
    values: NDArray[np.float32]
    size: I64
    target: I64
    person: I64


class CoarseChoice(NamedTuple):
    """`weights` by column; `mix`: the popularity that the column `popular` stands for."""

    weights: Mapping[str, float]
    mix: Mix


def choose_weights(
    of: Candidates, default: Mapping[str, float], mix: Mix, singles: Sequence[str]
) -> CoarseChoice:
    """The weights and the mix for people with an interest. `default` has no weight of the vectors: it is
    tried against what was found with them. `singles`: columns that are tried alone."""
    chosen: dict[str, Any] = {
        "mix": mix,
        "popular": default["popular"],
        "vector": MIN_VECTOR_WEIGHT,
    }
    for name, values in VALUES.items():
        tried = {value: {**chosen, name: value} for value in dict.fromkeys((chosen[name], *values))}
        found = {value: _gains(of, _weights(default, its)) for value, its in tried.items()}
        errors = STANDARD_ERRORS_OF_MIXES if name == "mix" else STANDARD_ERRORS
        chosen[name] = winner(found, of.person, chosen[name], errors)
    options: dict[str, Mapping[str, float]] = {
        "all": _weights(default, chosen),
        "without vectors": _weights(default, {**chosen, "vector": 0.0}),
        **{name: {name: 1.0} for name in singles},
    }
    best = winner({name: _gains(of, its) for name, its in options.items()}, of.person, "all")
    if best in singles:
        return CoarseChoice({best: 1.0}, chosen["mix"])
    weights = {**default, "popular": chosen["popular"]}
    if best == "all":
        weights["vector"] = chosen["vector"]
    return CoarseChoice(weights, chosen["mix"])


def scored(of: Candidates, weights: Mapping[str, float]) -> Scored:
    """How each target is scored among its candidates by the weighted sum of the columns."""
    scores = of.values @ np.array([weights.get(name, 0.0) for name in of.columns], np.float32)
    there = of.target >= 0
    choice = np.repeat(np.arange(len(of.size)), of.size)
    return compared(scores, choice, scores[of.target], there)


def _gains(of: Candidates, weights: Mapping[str, float]) -> F64:
    """In expectation over equal scores: else a column that is 0 for all would find everything."""
    if not len(of.values):
        return np.zeros(len(of.size))
    return expected("ndcg", scored(of, weights), MAX_RANK_COUNTED)


def _weights(default: Mapping[str, float], chosen: Mapping[str, Any]) -> dict[str, float]:
    """`default` with the chosen settings, the mix as weights of the windows' own columns."""
    mix = np.array(chosen["mix"]) * chosen["popular"] / sum(chosen["mix"])
    weights = {name: weight for name, weight in default.items() if name != "popular"}
    return (
        weights
        | {"vector": chosen["vector"]}
        | dict(zip(POPULAR_BY_WINDOW, mix.tolist(), strict=True))
    )
