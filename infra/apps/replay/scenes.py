"""The log replayed for training: each choice with state and tables just before it, by serving's own stages.

Neither state nor tables include the choice itself, or anything later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from flows.offline.history import Cut, Log, State, fold_partition
from flows.offline.records import recorded
from infra.apps.replay.facts import FactsByTime
from infra.apps.replay.recipe import PLACEMENT
from infra.apps.replay.world import ReplayWorld
from infra.settings import Settings
from models.aggregates.tables import Tables
from models.arrays import I64
from models.release.release import Release
from schemas.state.facts import Actions, Delta
from serving.decide import offline
from serving.decide.case import World
from serving.decide.columns import COLUMNS
from serving.decide.person import Person, from_log
from serving.world.index import SpaceIndex
from serving.world.placements import BUILT_IN_RECIPES

RECIPE: Final = BUILT_IN_RECIPES[PLACEMENT]
FEATURES: Final = tuple(column.name for column in COLUMNS)
MAX_TABLE_UPDATES: Final = 60
"""Updates of the tables in one replay."""
TIMES_SAMPLED: Final = 100_000
"""Times of actions, about, whose quantiles part the facts of a log."""
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
        # also where a sequence is none of ours: it is packed once for all reads
        log = log._replace(events=[recorded(records) for records in log.events])
        cuts, self._states = [_cut(target) for target in targets], dict[Cut, State]()
        size = sum(map(len, log.events))
        self.facts = FactsByTime(_seconds(log, max(1, size // TIMES_SAMPLED)), size)
        for partition in range(len(log.events)):
            self._states |= fold_partition(log, partition, cuts, settings, self._add)
        self.world = offline.world(
            log.items,
            recipe=RECIPE,
            exact=settings.exact_search,
            retrieval=settings.retrieval,
        )

    def before(self, second: int) -> Actions:
        """The facts before `second`, in order of time, all at once: `facts_before` takes less memory."""
        return self.facts.entry(0, self.facts.place(second)).actions

    def facts_before(self, second: int) -> Iterator[Actions]:
        """The same facts, some at a time."""
        for entry in self.facts.entries(0, self.facts.place(second)):
            yield entry.actions

    def person(self, target: HeldOutChoice) -> Person:
        """The person just before their choice."""
        return from_log(*self._states[_cut(target)])

    def space_of(self, release: Release) -> SpaceIndex:
        """The items of the catalogue in the space of `release`."""
        space = SpaceIndex(
            self.world.items, release, self.world.index.exact, self.world.index.retrieval
        )
        space.refresh()
        return space

    def play(
        self,
        targets: Sequence[HeldOutChoice],
        release: Release | None,
        progress: Progress,
        updates: int = MAX_TABLE_UPDATES,
    ) -> Iterator[Scene]:
        """A scene for each target, in order of time. Tables are updated at most `updates` times: with fewer
        than there are targets they lag by some actions. They are published under the counting of `release`;
        None: under the built-in one, without a release."""
        space = self.space_of(release) if release else None
        replayed = ReplayWorld(replace(self.world, release=release, space=space), [self.facts])
        every = max(1, -(-len(targets) // updates))
        for n, target in enumerate(sorted(targets, key=lambda it: it.now)):
            if n % every == 0:
                replayed.advance([self.facts.place(target.now // 1000)])
            yield Scene(target, self.person(target), replayed.world)
            progress(1)

    def stretches(
        self, targets: Sequence[HeldOutChoice], count: int
    ) -> Iterator[tuple[Sequence[HeldOutChoice], list[Person], Tables]]:
        """`targets` in order of time, in at most `count` stretches of one size, each with its people and the
        sums before its first choice."""
        ordered, sums = sorted(targets, key=lambda it: it.now), Tables(1)
        size = max(1, -(-len(ordered) // count))
        for first in range(0, len(ordered), size):
            stretch = ordered[first : first + size]
            end = self.facts.place(stretch[0].now // 1000)
            for entry in self.facts.entries(sums.positions[0], end):
                sums.apply(0, entry)
            yield stretch, [self.person(target) for target in stretch], sums

    def _add(self, entry: Delta) -> None:
        self.facts.add(entry.actions)


def _cut(target: HeldOutChoice) -> Cut:
    return Cut(target.partition, target.offset, target.person)


def _seconds(log: Log, every: int) -> I64:
    """Times of each `every`-th record of the log."""
    times = [recorded(records).column("time")[::every] // 1000 for records in log.events]
    return np.concatenate([np.empty(0, np.int64), *times])
