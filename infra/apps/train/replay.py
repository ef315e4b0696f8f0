"""The log replayed for training: each choice with state and tables just before it, by serving's own stages.

Neither state nor tables include the choice itself, or anything later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec
import numpy as np

from flows.offline.history import Cut, Facts, Log, State, by_time, fold
from infra.apps.evaluate.arms import ReplayWorld, in_time_order
from infra.apps.train.log import HeldOutChoice
from infra.settings import Settings
from models.evaluation.ranking import Lists, Ranks
from models.release.release import MAX_RANKED, Release
from schemas.control import Recipe
from schemas.state.facts import Actions
from serving.decide import offline
from serving.decide.case import DEFAULT_WEIGHTS, Ask, Case, World
from serving.decide.columns import COLUMNS
from serving.decide.decide import decide
from serving.decide.groups import choose, same_thing
from serving.decide.person import Person, from_log
from serving.decide.pool import Pool
from serving.decide.rank import feature_rows
from serving.decide.results import Scored
from serving.decide.rules import eligible
from serving.decide.score import score
from serving.decide.sources import retrieve, shortlist
from serving.world.index import SpaceIndex
from serving.world.placements import BUILT_IN_RECIPES

RECIPE: Final = BUILT_IN_RECIPES["replay"]
FEATURES: Final = tuple(column.name for column in COLUMNS)
SINGLE_SOURCES: Final = ("covisit", "vector", "content", "popular")
"""Sources that are judged alone: a ranker must not do worse than any of them."""
MAX_TABLE_UPDATES: Final = 60
"""Updates of the tables in one replay."""
SLATE_SIZE: Final = 10
Progress = Callable[[int], None]


class Scene(NamedTuple):
    """One choice: target, state of the person, and world."""

    target: HeldOutChoice
    person: Person
    world: World


class TrainingReplay:
    """One log, which can be replayed several times, each time with one release."""

    def __init__(self, log: Log, targets: Sequence[HeldOutChoice], settings: Settings) -> None:
        cuts = {target: Cut(target.partition, target.offset, target.person) for target in targets}
        states, by_partition = fold(log, cuts.values(), settings)
        self._people = {target: _person(states[cut]) for target, cut in cuts.items()}
        self._times = in_time_order(by_partition)
        self.facts: Facts = by_time(by_partition)
        self.world = offline.world(log.items, recipe=RECIPE, exact=settings.exact_search)

    def before(self, second: int) -> Actions:
        """The facts before `second`, in order of time."""
        return self.facts.entry(0, bisect_left(self._times, second)).actions

    def play(
        self, targets: Sequence[HeldOutChoice], release: Release, progress: Progress
    ) -> Iterator[Scene]:
        """A scene for each target, in order of time. Tables lag by some actions, as they do in serving."""
        space = SpaceIndex(self.world.items, release, self.world.index.exact)
        space.refresh()
        replayed = ReplayWorld(replace(self.world, release=release, space=space), [self.facts])
        every = max(1, -(-len(targets) // MAX_TABLE_UPDATES))
        for n, target in enumerate(sorted(targets, key=lambda it: it.now)):
            if n % every == 0:
                replayed.advance([bisect_left(self._times, target.now // 1000)])
            yield Scene(target, self._people[target], replayed.world)
            progress(1)


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


def _person(state: State) -> Person:
    return from_log(*state)
