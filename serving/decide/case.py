"""What a decision is made of: who asks, for what, of which world. No clock, no socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from models.outcomes import impressions
from models.release import content
from models.release import interest as interests
from models.release.interest import FADING, VECTOR_FADING
from models.release.release import Release
from schemas.control import Filter, Recipe
from schemas.identity import item_hash
from schemas.state.tables import WINDOWS
from schemas.times import DAY_MS, HOUR_MS
from serving.decide.person import Person
from serving.world.catalogue import Floats, Hashes, ItemTable, Mask, Slots
from serving.world.filters import Filters
from serving.world.index import ContentIndex, SpaceIndex
from serving.world.tables import Tables

DEFAULT_WINDOW: Final = "90d"
"""Which popularity a recommendation looks at: on MovieLens 7 days found half as much."""
# Found on MovieLens and on baskets, where affinity added nothing, so that it has no weight here.
# category is for those who said what they like.
DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "covisit": 1.0,
    "content": 0.015,
    "popular": 0.006,
    "category": 0.001,
}
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class World:
    """What all requests share. `rules` names the version of the recipe.

    `release` and `space` come together: the space is the release's own, over `items`.
    """

    items: ItemTable
    filters: Filters
    tables: Tables
    index: ContentIndex
    recipe: Recipe
    rules: str
    release: Release | None = None
    space: SpaceIndex | None = None

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each source and column: the recipe's, else the release's, else `DEFAULT_WEIGHTS`."""
        if self.recipe.weights is not None:
            return self.recipe.weights
        return (self.release.coarse if self.release else None) or DEFAULT_WEIGHTS


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants.

    `now` in ms; `item_id` is the item in view, `exclude` are item ids; `window` is the half-life of
    the popularity that counts (`schemas.state.tables.WINDOWS`); `served` holds what earlier pages showed:
    the low 32 bits of each item's hash, u32 LE.
    """

    now: int
    count: int = 10
    category: str | None = None
    item_id: str | None = None
    exclude: tuple[str, ...] = ()
    served: bytes = b""
    personalized: bool = True
    window: str = DEFAULT_WINDOW
    seed: int = 0
    """Of whatever is drawn, u64: the same seed draws the same."""
    filter: Filter | None = None
    placement: str = ""
    """Whose arms tell what was served least."""


class Interest(NamedTuple):
    """The known items that speak for a person, newest first. Each weighs less than the one after it,
    and all weigh the same whatever was done: on MovieLens weights by action found less.

    `in_view`: the first one is the item they look at, not one they acted on.
    """

    slots: Slots
    weights: Floats
    in_view: bool


NO_INTEREST: Final = Interest(np.empty(0, np.int32), np.empty(0), False)


class Case:
    """One decision's arguments, and what several stages derive from them (once each)."""

    def __init__(self, person: Person, world: World, ask: Ask) -> None:
        self.person, self.world, self.ask = person, world, ask
        preferences = person.preferences
        self.personal = ask.personalized and (preferences is None or preferences.personalized)

    @cached_property
    def interest(self) -> Interest:
        """What they last did that speaks for an item, the item in view before it; weight =
        `FADE`^rank, over their sum."""
        if not self.personal:
            return NO_INTEREST
        items = self.world.items
        slots = items.locate(interests.items(self.person.row))
        slots = slots[items.in_catalogue[slots]]
        if self.in_view:
            slots = np.concatenate([np.array([self.in_view], np.int32), slots])
        weights = FADING[: len(slots)]
        return Interest(slots, weights / weights.sum(), bool(self.in_view))

    @cached_property
    def in_view(self) -> int:
        """Slot of the item in view, 0 where there is none."""
        return self.world.items.find(self.ask.item_id) if self.ask.item_id else 0

    @cached_property
    def likeness(self) -> content.Vector:
        """What they are interested in, as content; zeros where nothing is known."""
        slots = self.interest.slots
        return content.person_vector(self.world.items.vectors[slots], VECTOR_FADING[: len(slots)])

    @cached_property
    def vector(self) -> content.Vector | None:
        """What they are interested in, in the space of the release; None where that says nothing.

        As the flow stored it, if it did so with this release and that knew every item; else made anew,
        by the same formula, of the same actions: what is served does not depend on which.
        """
        release, space, stored = self.world.release, self.world.space, self.person.vector
        if release is None or space is None or not self.personal:
            return None
        current = stored is not None and stored.release == release.id and stored.complete
        if stored is not None and current and not self.in_view:
            made = np.frombuffer(stored.grid, "<i2").astype(np.float32) / np.float32(content.GRID)
        else:
            made = self._encoded(space)
        return made if made.any() else None

    def _encoded(self, space: SpaceIndex) -> content.Vector:
        vectors = space.vectors_of(interests.items(self.person.row))
        if self.in_view:
            vectors = np.concatenate([space.vectors[self.in_view][None], vectors])
        return content.person_vector(vectors, VECTOR_FADING[: len(vectors)])

    def days_ago(self, days: float) -> int:
        """ms; a time that nothing was published before, where it is too long ago to be told."""
        return self.ask.now - round(min(days, 1e6) * DAY_MS)

    @property
    def explores(self) -> bool:
        """Whether the last slot may be drawn."""
        return self.world.recipe.exploration.epsilon > 0 and self.ask.count >= 2

    def served(self, slots: Slots) -> Floats:
        """(n,) how often this placement served each."""
        served, arms = np.zeros(len(slots)), self.world.tables.arms(self.ask.placement)
        if arms is not None:
            told = slots < len(arms.served)
            served[told] = arms.served[slots[told]]
        return served

    def shown(self, slots: Slots) -> Floats:
        """(n,) how often and how lately they were shown each: impressions, decayed by the recipe."""
        items, counts = self._impressions
        if not len(items):
            return np.zeros(len(slots))
        at = np.minimum(np.searchsorted(items, slots), len(items) - 1)
        return np.where(items[at] == slots, counts[at], 0.0)

    @cached_property
    def _impressions(self) -> tuple[Slots, Floats]:
        """Slots of what was shown, ascending, and how much each counts."""
        shown = self.person.impressions
        if not self.personal or not len(shown):
            return np.empty(0, np.int32), np.empty(0)
        hours = self.world.recipe.fatigue.half_life_hours
        counts = impressions.decayed(shown, self.ask.now, round(hours * HOUR_MS))
        slots = self.world.items.locate(shown["item"].astype(np.uint64))
        order = np.argsort(slots)
        return slots[order], counts[order]

    @cached_property
    def blocked(self) -> Mask:
        """By slot: seen or hidden by the person, or excluded by the request."""
        items, person, ask = self.world.items, self.person, self.ask
        blocked = np.zeros(len(items.hash), np.bool_)
        for hashes in (person.seen, person.hidden, hashes_of(ask.exclude)):
            if len(hashes):
                blocked[items.locate(hashes)] = True
        blocked[self.in_view] = True
        return blocked

    @property
    def window(self) -> int:
        """Column of the popularity asked for."""
        return WINDOWS.index(self.ask.window)

    @cached_property
    def category(self) -> int | None:
        """Number of the category asked for, -1 where no item has it; None where none is."""
        if self.ask.category is None:
            return None
        found = self.world.items.categories.find(self.ask.category)
        return -1 if found is None else found


def hashes_of(item_ids: Sequence[str]) -> Hashes:
    return np.array([item_hash(item_id) for item_id in item_ids], np.uint64)
