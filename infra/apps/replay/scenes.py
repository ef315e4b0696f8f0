"""The log replayed for training: each choice with state and tables just before it, by serving's own stages.

Neither state nor tables include the choice itself, or anything later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from flows.offline.history import Cut, Facts, Log, State, by_time, fold
from infra.apps.replay.world import ReplayWorld, in_time_order
from infra.settings import Settings
from models.release.release import Release
from schemas.state.facts import Actions
from serving.decide import offline
from serving.decide.case import World
from serving.decide.columns import COLUMNS
from serving.decide.person import Person, from_log
from serving.world.index import SpaceIndex
from serving.world.placements import BUILT_IN_RECIPES

RECIPE: Final = BUILT_IN_RECIPES["replay"]
FEATURES: Final = tuple(column.name for column in COLUMNS)
MAX_TABLE_UPDATES: Final = 60
"""Updates of the tables in one replay."""
Progress = Callable[[int], None]


class HeldOutChoice(NamedTuple):
    """A choice of a person: their earlier events are before `offset` in the partition's log."""

    partition: int
    offset: int
    person: str
    item: int
    """The item's hash."""
    now: int
    """The time of the choice, ms."""


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


def _person(state: State) -> Person:
    return from_log(*state)
