"""What each arm answered to each choice: the rank of the choice in a slate, and in the order of all items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import msgspec
import numpy as np

from infra.apps.replay.ranks import single_source
from infra.apps.replay.recipe import SLATE_SIZE
from infra.apps.replay.scenes import RECIPE
from infra.apps.replay.shown import candidates, place, slate, unseen
from models.arrays import I64
from schemas.control import NEVER, Recipe, Repeat
from serving.decide.case import World
from serving.decide.person import Person
from serving.decide.rank import rank
from serving.decide.sources import SOURCES

_AT_ONCE: Final = "0s"
KEPT: Final = Repeat(view=_AT_ONCE, click=_AT_ONCE, purchase=_AT_ONCE)
"""What a person had may be shown at once."""
_NEEDED: Final = frozenset({"fresh", "explore"})
"""Sources that no release is compared with: they do not say what a person wants."""


class Choice(NamedTuple):
    """One choice as an arm sees it: the slot of the item, who, when (ms), and the world's state."""

    slot: int
    person: Person
    now: int
    world: World


class Full(NamedTuple):
    """A choice in the order of all eligible items. `rank`: with the product's order of ties, 0 where the item
    is no candidate. `above`, `equal`: items with a higher score, and others with the same. `items`: all that
    are eligible."""

    rank: int
    above: int
    equal: int
    items: int


@dataclass
class Answers:
    """Of one arm to G choices. `rank` (G,): of the choice in the slate, from 1, 0: not in it. `slates`
    (G, 10): slots of the items, 0: none. `full` (G, 4): `Full` without the caps, where asked for."""

    rank: I64
    slates: I64
    full: I64

    @classmethod
    def empty(cls, n: int) -> Answers:
        return cls(
            np.zeros(n, np.int64),
            np.zeros((n, SLATE_SIZE), np.int64),
            np.zeros((n, len(Full._fields)), np.int64),
        )

    def put(self, n: int, choice: Choice, recipe: Recipe, *, whole: bool) -> None:
        """Answers choice `n` under `recipe`. `whole`: also in the order of all items."""
        world = replace(choice.world, recipe=recipe)
        slots = slate(choice.person, world, choice.now)
        self.slates[n, : len(slots)] = slots
        at = place(world, slots, choice.slot)
        self.rank[n] = 0 if at is None else at + 1
        if whole:
            self.full[n] = in_full(choice, world)


def in_full(choice: Choice, world: World) -> Full:
    """The choice in the ranker's order, before any cap. Items beyond the candidates are tied at its end."""
    case, pool, scored = candidates(choice.person, world, choice.now)
    items, slots = eligible_items(choice, world), pool.slots[scored.kept]
    at = place(world, slots, choice.slot)
    if at is None:
        return Full(0, len(slots), max(0, items - len(slots) - 1), items)
    ranked = rank(case, pool, scored)
    scores = ranked.scores
    first = int(np.flatnonzero(ranked.order == at)[0])
    above, equal = int((scores > scores[at]).sum()), int((scores == scores[at]).sum()) - 1
    return Full(first + 1, above, equal, items)


def eligible_items(choice: Choice, world: World) -> int:
    """The items of the catalogue that the recipe may show to the person."""
    masked = world.recipe.repeat.click == NEVER
    return unseen(world, choice.person) if masked else world.items.count


class Recipes(NamedTuple):
    """The recipes of the arms: the product's, the same without caps, and each single source."""

    product: Recipe
    uncapped: Recipe
    sources: Mapping[str, Recipe]


def recipes(seen: str) -> Recipes:
    product = RECIPE if seen == "masked" else msgspec.structs.replace(RECIPE, repeat=KEPT)
    uncapped = msgspec.structs.replace(product, category_cap=1.0, owner_cap=1.0)
    return Recipes(product, uncapped, dict(_single(product)))


def _single(product: Recipe) -> Iterator[tuple[str, Recipe]]:
    for source in SOURCES:
        if source.name not in _NEEDED:
            yield source.name, single_source(source.name, product)
