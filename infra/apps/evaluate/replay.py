"""The replay of an evaluation: every arm answers every choice, each from the same people and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from flows.offline.history import Log
from infra.apps.evaluate.answers import Answers, Choice, Recipes
from infra.apps.evaluate.protocols import delays
from infra.apps.evaluate.protocols.delays import Cutoffs
from infra.apps.evaluate.protocols.plan import EvaluationPlan
from infra.apps.replay.scenes import HeldOutChoice, TrainingReplay
from infra.settings import Settings
from models.arrays import I64
from models.release.release import Release
from schemas.control import Recipe
from schemas.events import Action
from schemas.identity import item_hash

BUILT_IN: Final = "built_in"
RELEASED: Final = "released"
CANDIDATE: Final = "candidate"
"""A release that the gate does not let serve."""
FRESH: Final = "fresh"
LATE: Final = "late"
FROZEN: Final = "frozen"
UNCAPPED: Final = "_uncapped"
"""Ends the name of an arm without the caps."""
MAX_TABLE_UPDATES: Final = 1_500
"""In one pass: the product updates its tables each second. On MovieLens 60 cost 3 % of NDCG."""
Progress = Callable[[int], None]


class Contender(NamedTuple):
    """`whole`: its order of all items is kept too."""

    recipe: Recipe
    whole: bool = False


class Replay:
    """One log and the choices in it, which several passes replay, each with a release and a delay."""

    def __init__(
        self, log: Log, plan: EvaluationPlan, cutoffs: Sequence[Cutoffs], settings: Settings
    ) -> None:
        """`log`: of `plan.acts`, in one partition. `cutoffs`: those that passes will ask for."""
        self._plan = plan
        records = log.events[0]
        self._people = [_person(records[place]) for place in plan.targets.tolist()]
        self._items = [
            item_hash(plan.acts.item_ids[it]) for it in plan.acts.item[plan.targets].tolist()
        ]
        self._fresh = self._cuts(delays.fresh(plan))
        cuts = [*self._fresh, *(cut for each in cutoffs for cut in self._cuts(each))]
        self._scenes = TrainingReplay(log, list(dict.fromkeys(cuts)), settings)
        self.world = self._scenes.world
        self.slots: I64 = self.world.items.locate(np.array(self._items, np.uint64)).astype(np.int64)

    def choices(
        self, cutoffs: Cutoffs, release: Release | None, progress: Progress
    ) -> Iterator[tuple[int, Choice]]:
        """Each choice and its number, in the order of the state that is known; `release` None: none serves.

        What a person had is always the fresh list: an arm with late state would lose by showing again what
        cannot be chosen again.
        """
        cuts = self._cuts(cutoffs)
        order = sorted(range(len(cuts)), key=lambda n: cuts[n].now)
        scenes = self._scenes.play(cuts, release, progress, MAX_TABLE_UPDATES)
        for n, (_, person, world) in zip(order, scenes, strict=True):
            if cuts[n] != self._fresh[n]:
                person = person._replace(seen=self._scenes.person(self._fresh[n]).seen)
            yield n, Choice(int(self.slots[n]), person, int(self._plan.now[n]), world)

    def answers(
        self,
        cutoffs: Cutoffs,
        release: Release | None,
        arms: Mapping[str, Contender],
        progress: Progress,
    ) -> dict[str, Answers]:
        """Of each of `arms`, in one pass."""
        found = {name: Answers.empty(len(self.slots)) for name in arms}
        for n, choice in self.choices(cutoffs, release, progress):
            for name, arm in arms.items():
                found[name].put(n, choice, arm.recipe, whole=arm.whole)
        return found

    def _cuts(self, cutoffs: Cutoffs) -> list[HeldOutChoice]:
        rows = zip(
            cutoffs.place.tolist(), self._people, self._items, cutoffs.now.tolist(), strict=True
        )
        return [HeldOutChoice(0, place, who, item, now) for place, who, item, now in rows]


def product_arms(name: str, recipes: Recipes) -> dict[str, Contender]:
    """The product under `name`, with its caps and without."""
    return {
        name: Contender(recipes.product, whole=True),
        name + UNCAPPED: Contender(recipes.uncapped),
    }


def source_arms(recipes: Recipes) -> dict[str, Contender]:
    """Each source by itself."""
    return {name: Contender(recipe, whole=True) for name, recipe in recipes.sources.items()}


def _person(record: tuple[int, int, object]) -> str:
    event = record[2]
    assert isinstance(event, Action)
    return event.person
