"""What decisions showed of held-out choices: ranks by recipe, and the candidates of a ranker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from infra.apps.evaluate.live import SLATE_SIZE
from infra.apps.replay.scenes import FEATURES, RECIPE, Scene
from models.evaluation.ranking import Lists, Ranks
from models.release.release import MAX_RANKED
from schemas.control import Recipe
from serving.decide.case import DEFAULT_WEIGHTS, Ask, Case
from serving.decide.decide import decide
from serving.decide.groups import choose, same_thing
from serving.decide.pool import Pool
from serving.decide.rank import feature_rows
from serving.decide.results import Scored
from serving.decide.rules import eligible
from serving.decide.score import score
from serving.decide.sources import retrieve, shortlist

SINGLE_SOURCES: Final = ("covisit", "vector", "content", "popular")
"""Sources that are judged alone: a ranker must not do worse than any of them."""


def ranks_by_weight(
    scenes: Iterator[Scene], weights: Sequence[float], column: str
) -> dict[float, Ranks]:
    """By weight of `column`, with the built-in weights of the others: the rank of each choice among all
    candidates by the coarse score, 0 where it is no candidate."""
    found: dict[float, list[int]] = {weight: [] for weight in weights}
    for scene in scenes:
        _, _, scored, at = _scored(scene)
        for weight in weights:
            if at is None:
                found[weight].append(0)
                continue
            totals = np.zeros(len(scored.kept))
            for name, values in scored.values.items():
                totals += (weight if name == column else DEFAULT_WEIGHTS[name]) * values
            found[weight].append(1 + int((totals > totals[at]).sum()))
    return {weight: np.array(ranks, np.int64) for weight, ranks in found.items()}


class CandidateLists:
    """Collects the candidates that a ranker would see, in all `FEATURES`, where they include the choice."""

    def __init__(self) -> None:
        self._rows = [np.empty((0, len(FEATURES)), np.float32)]
        self._targets = [np.empty(0, np.bool_)]

    def add(self, scene: Scene) -> None:
        case, pool, scored, at = _scored(scene)
        seen = scored.order[:MAX_RANKED]
        if at is not None and at in seen:
            self._rows.append(feature_rows(case, pool, scored.kept[seen], FEATURES))
            self._targets.append(seen == at)

    @property
    def lists(self) -> Lists:
        sizes = [len(target) for target in self._targets[1:]]
        made, target = np.concatenate(self._rows), np.concatenate(self._targets)
        return Lists(made, target, np.array(sizes, np.int64))


class ShownRanks:
    """Collects, by recipe, the rank at which `decide` shows each choice or a variant of it, 0 where it does
    not."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes
        self._found: dict[str, list[int]] = {name: [] for name in recipes}

    def add(self, scene: Scene) -> None:
        target, person, world = scene
        slot = int(world.items.locate(np.array([target.item], np.uint64))[0])
        for name, recipe in self._recipes.items():
            ask = Ask(now=target.now, count=SLATE_SIZE)
            page = decide(person, replace(world, recipe=recipe), ask, "none").items
            slots = np.array([item.slot for item in page], np.int32)
            ranks = (np.flatnonzero(same_thing(world.items, slots, slot)) + 1).tolist()
            self._found[name].append(ranks[0] if ranks else 0)

    @property
    def ranks(self) -> dict[str, Ranks]:
        return {name: np.array(ranks, np.int64) for name, ranks in self._found.items()}


def single_source(source: str) -> Recipe:
    """A recipe with one source, ranked by the column of that source."""
    return msgspec.structs.replace(RECIPE, weights={source: 1.0}, ranker=False)


def coarse(weights: Mapping[str, float]) -> Recipe:
    return msgspec.structs.replace(RECIPE, weights=dict(weights), ranker=False)


def _scored(scene: Scene) -> tuple[Case, Pool, Scored, int | None]:
    """The stages up to the coarse score, and the index of the choice, or of its variant, among the scored
    candidates."""
    target, person, world = scene
    case = Case(person, world, Ask(now=target.now, count=SLATE_SIZE))
    pool = retrieve(case, world.recipe.depth)
    pool, kept, _ = choose(case, pool, eligible(case, pool.slots).kept)
    scored = score(case, pool, shortlist(pool, kept))
    slot = int(world.items.locate(np.array([target.item], np.uint64))[0])
    there = np.flatnonzero(same_thing(world.items, pool.slots[scored.kept], slot))
    return case, pool, scored, int(there[0]) if len(there) else None
