"""What decisions showed of held-out choices: ranks by arm, and candidates with their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec
import numpy as np

from infra.apps.replay.scenes import FEATURES, RECIPE, Scene
from infra.apps.replay.shown import candidates, place, slate
from models.arrays import I64, U64
from models.evaluation.ranking import Lists, Ranks
from models.release.release import MAX_RANKED, Release
from models.training.coarse import POPULAR_BY_WINDOW, Candidates
from schemas.control import Recipe
from serving.decide.case import Case
from serving.decide.pool import Pool
from serving.decide.rank import feature_rows
from serving.decide.results import Scored
from serving.world.index import SpaceIndex

SINGLE_SOURCES: Final = ("covisit", "vector", "content", *POPULAR_BY_WINDOW)
"""Sources that are judged alone: a release must not do worse than any of them."""


class ReplayArm(NamedTuple):
    """What a decision is made by: a recipe, and a release and its space, None for those of the scene. The
    release's lists of neighbours are those of the scene's release."""

    recipe: Recipe
    release: Release | None = None
    space: SpaceIndex | None = None


class CoarseValues:
    """Collects the candidates of each choice in the columns of the coarse score that have a weight."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._values = [np.empty((0, len(columns)), np.float32)]
        self._sizes, self._targets, self._rows = list[int](), list[int](), 0

    def add(self, scene: Scene) -> None:
        _, _, scored, at = _scored(scene)
        values = np.zeros((len(scored.kept), len(self._columns)), np.float32)
        for index, name in enumerate(self._columns):
            if name in scored.values:
                values[:, index] = scored.values[name]
        self._targets.append(-1 if at is None else self._rows + at)
        self._sizes.append(len(values))
        self._rows += len(values)
        self._values.append(values)

    def candidates(self, person: I64) -> Candidates:
        """Those of all choices added; `person` (n,) of each."""
        return Candidates(
            self._columns,
            np.concatenate(self._values),
            np.array(self._sizes, np.int64),
            np.array(self._targets, np.int64),
            person,
        )


class CandidateLists:
    """Collects the candidates that a ranker would see, in all `FEATURES`, where they include the choice."""

    def __init__(self) -> None:
        self._rows = [np.empty((0, len(FEATURES)), np.float32)]
        self._targets = [np.empty(0, np.bool_)]
        self._items: list[int] = []

    def add(self, scene: Scene) -> None:
        case, pool, scored, at = _scored(scene)
        seen = scored.order[:MAX_RANKED]
        if at is not None and at in seen:
            self._rows.append(feature_rows(case, pool, scored.kept[seen], FEATURES))
            self._targets.append(seen == at)
            self._items.append(scene.target.item)

    def lists(self, established: U64) -> Lists:
        """`established`: hashes of the items that are not nearly new."""
        sizes = [len(target) for target in self._targets[1:]]
        made, target = np.concatenate(self._rows), np.concatenate(self._targets)
        new = ~np.isin(np.array(self._items, np.uint64), established)
        return Lists(made, target, np.array(sizes, np.int64), new)


class ShownRanks:
    """Collects, by arm, the rank at which `decide` shows each choice or a variant of it, 0 where it does
    not."""

    def __init__(self, arms: Mapping[str, Recipe | ReplayArm]) -> None:
        self._arms = {
            name: arm if isinstance(arm, ReplayArm) else ReplayArm(arm)
            for name, arm in arms.items()
        }
        self._found: dict[str, list[int]] = {name: [] for name in arms}

    def add(self, scene: Scene) -> None:
        target, person, scene_world = scene
        slot = int(scene_world.items.locate(np.array([target.item], np.uint64))[0])
        for name, (recipe, release, space) in self._arms.items():
            world = replace(scene_world, recipe=recipe)
            if release is not None:
                world = replace(world, release=release, space=space or world.space)
            at = place(world, slate(person, world, target.now), slot)
            self._found[name].append(0 if at is None else at + 1)

    @property
    def ranks(self) -> dict[str, Ranks]:
        return {name: np.array(ranks, np.int64) for name, ranks in self._found.items()}


def single_source(source: str, recipe: Recipe = RECIPE) -> Recipe:
    """`recipe` with one source, ranked by the column of that source."""
    return msgspec.structs.replace(recipe, weights={source: 1.0}, ranker=False)


def coarse(weights: Mapping[str, float]) -> Recipe:
    return msgspec.structs.replace(RECIPE, weights=dict(weights), ranker=False)


def _scored(scene: Scene) -> tuple[Case, Pool, Scored, int | None]:
    """The stages up to the coarse score, and the index of the choice, or of its variant, among the scored
    candidates."""
    target, person, world = scene
    case, pool, scored = candidates(person, world, target.now)
    slot = int(world.items.locate(np.array([target.item], np.uint64))[0])
    return case, pool, scored, place(world, pool.slots[scored.kept], slot)
