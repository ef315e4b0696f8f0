"""What a decision is made of: who asks, for what, of which world. No clock, no socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import content
from models.features.ring import recent
from models.release import Release
from schemas.actions import WEIGHT
from schemas.control import Filter, Recipe
from schemas.identity import item_hash
from schemas.tables import WINDOWS
from serving.catalogue import Hashes, ItemTable, Slots
from serving.index import ContentIndex
from serving.person import Person
from serving.tables import Tables

WINDOW: Final = "90d"
"""Which popularity a recommendation looks at: on MovieLens 7 days found half as much."""
LAST: Final = 20
"""How many of a person's latest actions speak for them."""
FADE: Final = 0.75
"""What an action is worth of the one after it, to co-visitation."""
VECTOR_FADE: Final = 0.8
"""The same, to what the person's vector is made of."""
# Found on MovieLens and on baskets, where affinity added nothing, so that it has no weight here.
# category is for those who said what they like.
WEIGHTS: Final[Mapping[str, float]] = {
    "covisit": 1.0,
    "content": 0.015,
    "popular": 0.006,
    "category": 0.001,
}
_SPEAKS: Final = WEIGHT > 0
_FADING: Final = np.power(FADE, np.arange(LAST + 1), dtype=np.float64)
_VECTOR_FADING: Final = np.power(VECTOR_FADE, np.arange(LAST + 1), dtype=np.float64)

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class World:
    """What all requests share. `rules` names the version of the recipe."""

    items: ItemTable
    tables: Tables
    index: ContentIndex
    recipe: Recipe
    rules: str
    release: Release | None = None

    @property
    def weights(self) -> Mapping[str, float]:
        """What each source and column weighs: as the recipe says, else the release, else `WEIGHTS`."""
        if self.recipe.weights is not None:
            return self.recipe.weights
        return (self.release.coarse if self.release else None) or WEIGHTS


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants.

    `now` in ms; `item_id` is the item in view, `exclude` are item ids; `window` is the half-life of
    the popularity that counts (`schemas.tables.WINDOWS`); `served` holds what earlier pages showed:
    the low 32 bits of each item's hash, u32 LE.
    """

    now: int
    count: int = 10
    category: str | None = None
    item_id: str | None = None
    exclude: tuple[str, ...] = ()
    served: bytes = b""
    personalized: bool = True
    window: str = WINDOW
    seed: int = 0
    """Of whatever is drawn, u64: the same seed draws the same."""
    filter: Filter | None = None


class Interest(NamedTuple):
    """The known items that speak for a person, newest first. Each weighs less than the one after it,
    and all weigh the same whatever was done: on MovieLens weights by action found less.

    `in_view`: the first one is the item they look at, not one they acted on.
    """

    slots: Slots
    weights: Numbers
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
        acts = recent(self.person.row, LAST)
        slots = items.locate(acts["item"])
        slots = slots[items.known[slots] & _SPEAKS[acts["action"]]]
        in_view = items.find(self.ask.item_id) if self.ask.item_id else 0
        if in_view:
            slots = np.concatenate([np.array([in_view], np.int32), slots])
        weights = _FADING[: len(slots)]
        return Interest(slots, weights / weights.sum(), bool(in_view))

    @cached_property
    def vector(self) -> content.Vector:
        """What they are interested in, as content; zeros where nothing is known."""
        slots = self.interest.slots
        return content.person_vector(self.world.items.vectors[slots], _VECTOR_FADING[: len(slots)])

    @cached_property
    def blocked(self) -> Mask:
        """By slot: seen or hidden by the person, or excluded by the request."""
        items, person, ask = self.world.items, self.person, self.ask
        blocked = np.zeros(len(items.hash), np.bool_)
        for hashes in (person.seen, person.hidden, hashes_of(ask.exclude)):
            if len(hashes):
                blocked[items.locate(hashes)] = True
        if ask.item_id:
            blocked[items.find(ask.item_id)] = True
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
