"""The gate: a release serves only if no rival was better in the same replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from models.evaluation.ranking import Ranks, gains, hit_rate, ndcg

RANKER: Final = "ranker"
COARSE: Final = "coarse"
BUILT_IN: Final = "built_in"
MIN_CHOICES: Final = 100
"""Below it a difference is not significant."""
Outcome = Literal["released", "refused"]


class RankingQuality(msgspec.Struct, frozen=True):
    """HR@10 and NDCG@10 of one arm, over the held-out choices."""

    hit_rate: float
    ndcg: float


class Verdict(msgspec.Struct, frozen=True):
    """`why`: a sentence with the figures. `ratio`: NDCG over that of the best rival."""

    outcome: Outcome
    why: str
    ratio: float

    @property
    def released(self) -> bool:
        return self.outcome == "released"


def qualities(ranks: Mapping[str, Ranks]) -> dict[str, RankingQuality]:
    return {name: RankingQuality(hit_rate(of), ndcg(of)) for name, of in ranks.items()}


def judge(candidate: str, ranks: Mapping[str, Ranks]) -> Verdict:
    """Releases `candidate` if it is at least as good as each other arm, by NDCG@10.

    `ranks[name]` (G,): the rank at which that arm showed each of the same G choices, 0 where it did
    not. The verdict names the best rival.
    """
    means = {name: float(gains(of).mean()) if len(of) else 0.0 for name, of in ranks.items()}
    rivals = {name: mean for name, mean in means.items() if name != candidate}
    best = max(rivals, key=lambda name: rivals[name])
    own, rival = means[candidate], means[best]
    ratio = round(own / rival, 4) if rival else 1.0
    report = f"NDCG@10 {own:.4f} against {rival:.4f} of the best other, {best} ({ratio:.3f} x)"
    if len(ranks[candidate]) < MIN_CHOICES:
        few = f"only {len(ranks[candidate])} choices to judge by, {MIN_CHOICES} are the least"
        return Verdict("refused", few, ratio)
    return Verdict("released" if own >= rival and own > 0 else "refused", report, ratio)
