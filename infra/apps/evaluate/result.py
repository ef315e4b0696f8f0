"""The result of one evaluation, as JSON has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from infra.apps.evaluate.answers import Answers
from infra.apps.evaluate.figures import (
    WITH_INTERVALS,
    Figures,
    Paired,
    as_ratio,
    of_arm,
    of_random,
    with_interval,
)
from infra.apps.evaluate.ground import Ground
from infra.apps.evaluate.groups import slices
from infra.apps.evaluate.replay import BUILT_IN, CANDIDATE, FRESH, FROZEN, RELEASED, UNCAPPED

PRODUCT: Final = (RELEASED, BUILT_IN, CANDIDATE, FRESH, FROZEN)
"""Arms that are the product, with another release or state."""
POPULARITY: Final = "popular_90d"


def result(answers: Mapping[str, Answers], ground: Ground, window: str, seed: int) -> Figures:
    """`answers`: of `RELEASED`, `BUILT_IN` and each single source, and of other arms of the product.
    `window`: of recent popularity, chosen on the history."""
    paired = Paired(ground, answers, seed)
    arms = {
        name: of_arm(name, of, ground, paired)
        for name, of in answers.items()
        if not name.endswith(UNCAPPED)
    }
    sources = {name: it for name, it in arms.items() if name not in PRODUCT}
    best = max(sources, key=lambda name: sources[name]["ndcg"])
    others = [name for name in arms if name != RELEASED]
    recent = f"popular_{window}"
    return {
        "n": paired.n,
        "people": paired.people,
        "random": of_random(answers[RELEASED].full[:, 3]),
        "popularity": sources.get(POPULARITY, sources.get("popular", {})),
        "recent_popularity": {"window": window, **sources.get(recent, sources.get("popular", {}))},
        "sources": sources,
        **{name: arms[name] for name in PRODUCT if name in arms},
        "best_source": best,
        "ratios": {name: as_ratio(paired.ratio(RELEASED, name)) for name in others},
        "category_cap": _cap(paired, answers),
        "slices": _slices(answers, ground, best, seed),
    }


def _cap(paired: Paired, answers: Mapping[str, Answers]) -> Figures:
    """The product's NDCG with its caps over that without: 0.95 is a cost of 5 %."""
    return {
        name: as_ratio(paired.ratio(name, name + UNCAPPED))
        for name in (RELEASED, BUILT_IN)
        if name + UNCAPPED in answers
    }


def _slices(answers: Mapping[str, Answers], ground: Ground, best: str, seed: int) -> dict[str, Any]:
    some = {name: answers[name] for name in (RELEASED, best)}
    found = {}
    for name, inside in slices(ground).items():
        paired = Paired(ground, some, seed, inside)
        found[name] = {
            "n": paired.n,
            "people": paired.people,
            RELEASED: _accuracy(paired, RELEASED),
            "best_source": _accuracy(paired, best),
            **as_ratio(paired.ratio(RELEASED, best)),
        }
    return found


def _accuracy(paired: Paired, name: str) -> Figures:
    found: Figures = {}
    for metric in WITH_INTERVALS:
        found |= with_interval(metric, paired.mean(metric, name))
    return found
