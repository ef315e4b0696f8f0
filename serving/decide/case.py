"""What a decision is made of: the person, the request, the world. No clock, no socket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.lookup import among, last_places
from models.outcomes import impressions
from models.release import content
from models.release import interest as interests
from models.release.interest import LATEST_ACTIONS, MAX_FADES, VECTOR_FADING, fading
from models.release.release import Release
from models.seen import ACTED, CLICK, PURCHASE, SHOW, SHOWING, VIEW
from schemas.control import Filter, Recipe, duration_ms
from schemas.identity import item_hash
from schemas.state.counting import BUILT_IN, Counting, Mix, only
from schemas.times import DAY_MS, HOUR_MS
from serving.decide.person import Person
from serving.world.catalogue import Floats, Hashes, ItemTable, Slots
from serving.world.filters import Filters
from serving.world.index import ContentIndex, SpaceIndex
from serving.world.neighbours import Runs
from serving.world.tables import Tables

# Found on MovieLens and on baskets, where affinity added nothing, so that it has no weight here.
# category is for people who set preferences.
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

    `release` and `space` are both there or both None: the space is the release's own, over `items`.
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

    @property
    def counting(self) -> Counting:
        """How pairs and popularity are counted: the release's, else `BUILT_IN`."""
        return self.release.counting if self.release else BUILT_IN


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks for.

    `now` in ms; `item_id` is the item in view, `exclude` are item ids; `window` is the half-life of
    the popularity that counts (`schemas.state.tables.WINDOWS`), None: as `World.counting` says. `served`
    holds the items of earlier pages: the low 32 bits of the hash of each item, or of its group where it has
    one, u32 LE.
    """

    now: int
    count: int = 10
    category: str | None = None
    item_id: str | None = None
    exclude: tuple[str, ...] = ()
    served: bytes = b""
    personalized: bool = True
    window: str | None = None
    seed: int = 0
    """Seed of all draws, u64: the same seed draws the same."""
    filter: Filter | None = None
    placement: str = ""
    """The placement whose arms count how often each item was served."""
    groups: tuple[str, ...] = ()
    """Groups of which other rows of the page show a variant."""


class Interest(NamedTuple):
    """The items of the catalogue that a person acted on, newest first; each weighs more than the one after
    it. The kind of action does not count: on MovieLens weights by action found less.

    `in_view`: the first one is the item in view, not one they acted on.
    """

    slots: Slots
    weights: Floats
    in_view: bool


class SeenSlots(NamedTuple):
    """The entries of what the person has seen, ordered by time: slot, bits and Unix seconds of each.
    `hidden`: slots that are hidden or disliked."""

    slots: Slots
    bits: NDArray[np.uint8]
    times: NDArray[np.uint32]
    hidden: Slots


NO_INTEREST: Final = Interest(np.empty(0, np.int32), np.empty(0), False)


class Case:
    """The arguments of one decision, and the values that several stages derive from them, each once."""

    def __init__(self, person: Person, world: World, ask: Ask) -> None:
        self.person, self.world, self.ask = person, world, ask
        preferences = person.preferences
        self.personal = ask.personalized and (preferences is None or preferences.personalized)

    @cached_property
    def interest(self) -> Interest:
        """The items of the person's last positive actions, the item in view before them; weight =
        ``Counting.fade ^ rank``, divided by the sum."""
        if not self.personal:
            return NO_INTEREST
        items = self.world.items
        slots = items.locate(interests.items(self.person.row))
        slots = slots[items.in_catalogue[slots]]
        if self.in_view:
            slots = np.concatenate([np.array([self.in_view], np.int32), slots])
        return Interest(slots, _weights(self.world.counting.fade, len(slots)), bool(self.in_view))

    @cached_property
    def summed_weights(self) -> Floats:
        """By the last place of an item in the interest the sum of the weights that it has there; 0 at the
        end, for an item that it lacks (`models.lookup.last_places`)."""
        slots, weights = self.interest.slots, self.interest.weights
        last = last_places(slots, slots, len(self.world.items.hash))
        return np.bincount(last, weights, len(last) + 1).astype(np.float64, copy=False)

    @cached_property
    def interest_lists(self) -> Runs:
        """Where the neighbours of the interest's entries lie."""
        return self.world.tables.neighbours.of(self.interest.slots)

    @cached_property
    def in_view(self) -> int:
        """Slot of the item in view, 0 where there is none."""
        return self.world.items.find(self.ask.item_id) if self.ask.item_id else 0

    @cached_property
    def likeness(self) -> content.Vector:
        """The person's interest as a content vector (DIM,); zeros where it is empty."""
        slots = self.interest.slots
        return content.person_vector(self.world.items.vectors[slots], VECTOR_FADING[: len(slots)])

    @cached_property
    def vector(self) -> content.Vector | None:
        """The person's interest in the space of the release (DIM,); None where it is zero.

        The vector that the flow stored is taken if it is of this release and complete. Else the same formula
        makes it of the same actions: the result does not depend on which of the two it is.
        """
        release, space, stored = self.world.release, self.world.space, self.person.vector
        if release is None or space is None or not self.personal:
            return None
        current = stored is not None and stored.release == release.id and stored.complete
        if stored is not None and current and not self.in_view:
            encoded = np.frombuffer(stored.grid, "<i2").astype(np.float32) / np.float32(
                content.GRID
            )
        else:
            encoded = self._encoded(space)
        return encoded if encoded.any() else None

    def _encoded(self, space: SpaceIndex) -> content.Vector:
        vectors = space.vectors_of(interests.items(self.person.row))
        if self.in_view:
            vectors = np.concatenate([space.vectors[self.in_view][None], vectors])
        return content.person_vector(vectors, VECTOR_FADING[: len(vectors)])

    def days_ago(self, days: float) -> int:
        """Unix ms, `days` before `now`; at most a million days, before which no item was published."""
        return self.ask.now - round(min(days, 1e6) * DAY_MS)

    @property
    def explores(self) -> bool:
        """Whether the last slot may be drawn."""
        return self.world.recipe.exploration.epsilon > 0 and self.ask.count >= 2

    def served(self, slots: Slots) -> Floats:
        """(n,) how often this placement served each item."""
        served, arms = np.zeros(len(slots)), self.world.tables.arms(self.ask.placement)
        if arms is not None:
            counted = slots < len(arms.served)
            served[counted] = arms.served[slots[counted]]
        return served

    def shown(self, slots: Slots) -> Floats:
        """(n,) impressions of each item on this person, decayed by the recipe's half-life."""
        items, counts = self._impressions
        if not len(items):
            return np.zeros(len(slots))
        found = np.minimum(np.searchsorted(items, slots), len(items) - 1)
        return np.where(items[found] == slots, counts[found], 0.0)

    @cached_property
    def _impressions(self) -> tuple[Slots, Floats]:
        """Slots of the items shown, ascending, and the decayed impressions of each."""
        shown = self.person.impressions
        if not self.personal or not len(shown):
            return np.empty(0, np.int32), np.empty(0)
        hours = self.world.recipe.fatigue.half_life_hours
        decayed = impressions.decayed(shown, self.ask.now, round(hours * HOUR_MS))
        # to float32: the last bit of a power in float64 depends on library and machine
        counts = decayed.astype(np.float32).astype(np.float64)
        slots = self.world.items.locate(shown["item"].astype(np.uint64))
        order = np.argsort(slots, kind="stable")
        return slots[order], counts[order]

    @cached_property
    def blocked(self) -> Slots:
        """Slots hidden or disliked by the person, or never to be repeated; excluded by the request, or in
        view; some of them several times."""
        items, seen = self.world.items, self._seen
        never = 0
        for bit, after in self._repeated:
            never |= bit if after is None else 0
        blocked = [seen.hidden, seen.slots[(seen.bits & never) != 0]]
        if self.ask.exclude:
            blocked.append(items.locate_variants(hashes_of(self.ask.exclude))[0])
        return np.concatenate([*blocked, np.array([self.in_view], np.int32)])

    @cached_property
    def waiting(self) -> Slots:
        """Slots that the person acted on, and that may come back only later; some of them several times."""
        seen, waiting = self._seen, [np.empty(0, np.int32)]
        kinds = dict[int, int]()
        for bit, after in self._repeated:
            if after is not None:
                kinds[after] = kinds.get(after, 0) | bit
        for after, bits in kinds.items():
            since = (self.ask.now - after) / 1000
            recent = seen.slots[((seen.bits & ACTED) != 0) & (seen.times > since)]
            if len(recent):
                slots = seen.slots[(seen.bits & bits) != 0]
                waiting.append(slots[among(recent, slots, len(self.world.items.hash))])
        return np.concatenate(waiting)

    def longest_ago(self, slots: Slots) -> NDArray[np.intp]:
        """(n,) order of `slots` by the time of the newest action on each, the oldest first."""
        items, seen = self.world.items, self._seen
        acted = np.flatnonzero(seen.bits & ACTED)
        newest = last_places(seen.slots[acted], slots, len(items.hash))
        latest = np.append(seen.times[acted], np.uint32(0))[newest]
        return np.lexsort((items.hash[slots], latest))

    @property
    def _repeated(self) -> Iterator[tuple[int, int | None]]:
        """By kind of action its bit, and after how many ms of the newest action its items may come back;
        None: never."""
        repeat = self.world.recipe.repeat
        for bit, text in (
            (VIEW, repeat.view),
            (CLICK, repeat.click),
            (PURCHASE, repeat.purchase),
        ):
            yield bit, duration_ms(text)

    @cached_property
    def _seen(self) -> SeenSlots:
        items, seen = self.world.items, self.person.seen
        slots, which = items.locate_variants(seen["item"].astype(np.uint64))
        bits = seen["bits"][which]
        if items.groups:  # bought ones come last
            others, of = items.variants(slots[(bits & PURCHASE) != 0])
            which = np.concatenate([which, which[(bits & PURCHASE) != 0][of]])
            bits = np.concatenate([bits, np.full(len(others), PURCHASE, np.uint8)])
            slots, order = np.concatenate([slots, others]), np.argsort(which, kind="stable")
            slots, which, bits = slots[order], which[order], bits[order]
        changes = np.flatnonzero(bits & SHOWING)
        hidden = slots[changes]
        if len(changes):  # ordered by time: the last entry of an item is the newest
            last = last_places(hidden, hidden, len(items.hash)) == np.arange(len(hidden))
            hidden = hidden[last & (bits[changes] & SHOW == 0)]
        return SeenSlots(slots, bits, seen["time"][which], hidden)

    @cached_property
    def mix(self) -> Mix:
        """The windows of the popularity that counts: the one asked for, else those that `World.counting` has
        for this person."""
        if self.ask.window is not None:
            return only(self.ask.window)
        counting = self.world.counting
        return counting.window if len(self.interest.slots) else counting.strangers

    @cached_property
    def category(self) -> int | None:
        """Number of the category asked for, -1 where no item has it; None where none is asked for."""
        if self.ask.category is None:
            return None
        found = self.world.items.categories.find(self.ask.category)
        return -1 if found is None else found


@lru_cache(maxsize=MAX_FADES * (LATEST_ACTIONS + 1))
def _weights(fade: float, n: int) -> Floats:
    """(n,) weights of n entries, newest first, divided by their sum."""
    weights = fading(fade)[:n]
    # one after the other, as a compiled decision adds them up
    shares = weights / np.add.accumulate(weights)[-1:]
    shares.flags.writeable = False
    return shares


def hashes_of(item_ids: Sequence[str]) -> Hashes:
    return np.array([item_hash(item_id) for item_id in item_ids], np.uint64)
