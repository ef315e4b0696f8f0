"""A world whose tables advance through the facts of a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from flows.offline.history import Facts
from infra.apps.replay.recipe import SLATE_SIZE
from models.aggregates.tables import Tables as Sums
from schemas.state.facts import Delta
from serving.decide.case import Ask, World
from serving.decide.decide import decide, decide_by_numpy
from serving.decide.person import Person
from serving.world.tables import Tables

Ids = tuple[str, ...]


class SortedFacts(Protocol):
    """Facts by place, which can be read from one place to another."""

    def entries(self, first: int, end: int) -> Iterable[Delta]:
        """The facts with first <= place < end, as entries of a delta log that chain."""


class ReplayWorld:
    """A world whose tables advance through `facts`, to any offsets."""

    def __init__(self, world: World, facts: Sequence[SortedFacts]) -> None:
        """Takes catalogue and recipe of `world`, and starts with empty tables."""
        self._facts, self._sums, self._version = facts, Sums(len(facts)), 0
        self.world = replace(world, tables=Tables(world.items))

    def advance(self, offsets: Sequence[int]) -> None:
        """Brings the tables to exactly the facts before `offsets`, one for each partition.

        Errors: ValueError where an offset lies before the last one.
        """
        if list(offsets) == self._sums.positions:
            return
        for p, (here, there) in enumerate(zip(self._sums.positions, offsets, strict=True)):
            if there < here:
                raise ValueError("the tables of a replay advance only forward")
            for entry in self._facts[p].entries(here, there):
                self._sums.apply(p, entry)
        self._version += 1
        self.world.tables.apply(self._sums.publish(self._version, self.world.counting))

    def show(
        self, person: Person, now: int, trained: bool = True, *, by_numpy: bool = False
    ) -> Ids:
        """Item ids for `person` at `now` (ms). `trained` False: without the release; `by_numpy`: as Python
        defines the decision."""
        world = self.world if trained else replace(self.world, release=None, space=None)
        way = decide_by_numpy if by_numpy else decide
        decision = way(person, world, Ask(now=now, count=SLATE_SIZE), "none")
        return tuple(item.item_id for item in decision.items)


def in_time_order(facts: Sequence[Facts]) -> list[int]:
    """Times of all facts, ascending, in seconds."""
    return sorted(second for partition in facts for second in partition.actions.time.tolist())
