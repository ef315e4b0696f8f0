"""The results of a decision's stages, and the decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.decide.pool import Places
from serving.world.catalogue import Floats

FeatureRows = NDArray[np.float32]
Explain = Literal["none", "reason", "full"]
"""How much an answer explains."""
VARIANT: Final = "variant"
"""The rule of which the variants are that gave way to one of their group."""
SEEN: Final = "seen"
"""The rule that is relaxed where a slate would be short."""
BEYOND: Final = "beyond"
"""In `Decision.removed`: candidates that no rule removed, beyond the `MAX_SCORED` that are scored."""


class OnStage(Protocol):
    """Is called with each stage as it ends. `ms`: how long it took; None: since the one before it ended."""

    def __call__(self, stage: str, ms: float | None = None, /) -> None: ...


class Scored(NamedTuple):
    """`totals` (k,), and the values (k,) of each column with a weight. `order` (k,): places, best first."""

    kept: Places
    totals: NDArray[np.float32]
    values: dict[str, Floats]
    order: Places


class Ranked(NamedTuple):
    """`scores` (k,): the final ones, by place in `Scored.kept`; `order` (k,): places, best first.

    `predictions[i]` is the ranker's output for the candidate at place `reranked[i]`, whose row is `rows[i]`;
    all three are empty where the ranker did not run. `fatigue` (k,): the decayed impressions by which scores
    were discounted; None where none was. `before_fatigue` (k,): the scores before that.
    """

    scores: NDArray[np.float32]
    order: Places
    reranked: Places
    predictions: NDArray[np.float32]
    rows: FeatureRows
    fatigue: Floats | None
    before_fatigue: NDArray[np.float32]


class Reason(NamedTuple):
    """`item_ids`: the items that the text names. `code` is stable, `text` is for people."""

    code: str
    text: str
    item_ids: tuple[str, ...] = ()


Reasons = dict[tuple[int, int], Reason]
"""What a reason says, by its code in C, and the slot or category that it says it of -> the reason."""
NEW: Final = Reason("new", "New here")
LISTED: Final = Reason("catalogue", "From the catalogue")
"""Of an item that nothing else speaks for, and that is not new."""
TASTE: Final = Reason("your_taste", "Close to what you watch")
EXPLORED: Final = Reason("explore", "Something new for you")
SEEN_BEFORE: Final = Reason("seen_before", "You have seen this before")
"""Of an item that fills a slate before its `repeat` is over: nothing else brought it back."""
MAX_NEW_DAYS: Final = 365
"""Since its publication: an older item is not called new, and neither is one without a title."""
MIN_SIMILAR_COSINE: Final = 0.4
"""Cosine from which two items are called similar: below it hashed words may just collide."""


class Contribution(NamedTuple):
    """`effect` = weight x value: what the coarse score would lack without the feature.

    Two more features stand for stages that ran: "ranker" (`value` the model's output, `effect` the score
    made of it, which replaces the coarse one) and "fatigue" (`value` the decayed impressions, `effect` the
    change of the score).
    """

    feature: str
    value: float
    effect: float


class Shown(NamedTuple):
    """One item of a slate. `sources` brought it; `contributions` are empty but where explain=full.

    `explore`: the slot was drawn, and not greedily. `probability`: that this slot holds the item, given the
    slots above. `features`: its row for the ranker, empty where the ranker did not run. `group`: the item's
    group, "" without one. `swapped`: a rule put it where the greedy choice was another: the fresh rule, the
    draw, or one variant a group. `variants`, with explain=full: the variants that are not shown because this
    one is.
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
    group: str = ""
    swapped: bool = False
    variants: tuple[str, ...] = ()


class Decision(NamedTuple):
    """`fallback`: why the answer is a lesser one, else None. `exhausted`: there are no more items.

    `sources`: how many candidates each source brought. `removed`: how many candidates each rule removed, how
    many each cap passed over, and how many were `BEYOND` what is scored. `kept`: how many passed all rules.
    """

    items: list[Shown]
    fallback: str | None
    relaxed: tuple[str, ...]
    exhausted: bool
    sources: Mapping[str, int]
    removed: Mapping[str, int]
    kept: int
