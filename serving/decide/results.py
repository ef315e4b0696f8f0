"""What the stages of a decision leave to the next one, and what it ends in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.decide.pool import Places
from serving.world.catalogue import Floats

FeatureRows = NDArray[np.float32]
Explain = Literal["none", "reason", "full"]
"""How much an answer says of why."""


class Scored(NamedTuple):
    """`totals` (k,), and the values (k,) of each column that took part. `order`: best first."""

    kept: Places
    totals: NDArray[np.float32]
    values: dict[str, Floats]
    order: Places


class Ranked(NamedTuple):
    """`scores` (k,) final ones, by place in `Scored.kept`; `order`: best first.

    `model[i]` is what the ranker said of the candidate at place `of[i]`, whose row is `rows[i]`: both
    empty where none was asked. `tired` (k,): impressions, decayed, of what was discounted for them;
    None where nothing was. `untired` (k,): the scores before that.
    """

    scores: NDArray[np.float32]
    order: Places
    of: Places
    model: NDArray[np.float32]
    rows: FeatureRows
    tired: Floats | None
    untired: NDArray[np.float32]


class Reason(NamedTuple):
    """`item_ids`: what it refers to. `code` is stable, `text` is for people."""

    code: str
    text: str
    item_ids: tuple[str, ...] = ()


class Contribution(NamedTuple):
    """`effect` = weight x value: what the coarse score would lack without it.

    Two more where they had a say: "ranker" (`value` what the model said, `effect` the score that it
    became, in place of the coarse one) and "fatigue" (`value` the impressions, decayed, `effect` what
    they changed).
    """

    feature: str
    value: float
    effect: float


class Shown(NamedTuple):
    """One item of a slate. `sources` brought it; `contributions` only where all was asked for.

    `explore`: the last slot was drawn, and not greedily. `probability`: with which this slot came to
    hold it, given the ones above. `features`: its row for the ranker, empty where none had a say.
    """

    slot: int
    item_id: str
    score: float
    category: str
    reason: Reason | None
    sources: tuple[str, ...]
    contributions: tuple[Contribution, ...]
    explore: bool = False
    probability: float = 1.0
    features: tuple[float, ...] = ()


class Decision(NamedTuple):
    """`fallback`: the reason for a lesser answer, else None. `exhausted`: there is no more.

    `sources`: how many candidates each brought. `removed`: how many each rule took, how many each cap
    passed over, and how many were `BEYOND` what is scored. `kept`: how many no rule took.
    """

    items: list[Shown]
    fallback: str | None
    relaxed: tuple[str, ...]
    exhausted: bool
    sources: Mapping[str, int]
    removed: Mapping[str, int]
    kept: int
