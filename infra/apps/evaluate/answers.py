"""What each arm answered to each choice: the rank of the choice in a slate, and in the order of all items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import msgspec
import numpy as np

from infra.apps.replay.recipe import SLATE_SIZE
from infra.apps.replay.scenes import RECIPE
from models.arrays import I64
from schemas.control import NEVER, Recipe, Repeat
from serving.decide.case import Ask, Case, World
from serving.decide.decide import decide
from serving.decide.groups import choose, same_thing
from serving.decide.person import Person
from serving.decide.rank import rank
from serving.decide.rules import eligible
from serving.decide.score import score
from serving.decide.sources import SOURCES, retrieve, shortlist
from serving.world.catalogue import Slots

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
        slots = slate(choice, world)
        self.slates[n, : len(slots)] = slots
        found = np.flatnonzero(same_thing(world.items, slots, choice.slot))
        self.rank[n] = found[0] + 1 if len(found) else 0
        if whole:
            self.full[n] = in_full(choice, world)


def slate(choice: Choice, world: World) -> Slots:
    page = decide(choice.person, world, Ask(now=choice.now, count=SLATE_SIZE), "none").items
    return np.array([item.slot for item in page], np.int32)


def in_full(choice: Choice, world: World) -> Full:
    """The choice in the ranker's order, before any cap. Items beyond the candidates are tied at its end."""
    case = Case(choice.person, world, Ask(now=choice.now, count=SLATE_SIZE))
    pool = retrieve(case, world.recipe.depth)
    pool, kept, _ = choose(case, pool, eligible(case, pool.slots).kept)
    ranked_from = score(case, pool, shortlist(pool, kept))
    ranked = rank(case, pool, ranked_from)
    items = eligible_items(choice, world)
    slots = pool.slots[ranked_from.kept]
    found = np.flatnonzero(same_thing(world.items, slots, choice.slot))
    if not len(found):
        return Full(0, len(slots), max(0, items - len(slots) - 1), items)
    at = int(found[0])
    scores = ranked.scores
    place = int(np.flatnonzero(ranked.order == at)[0])
    above, equal = int((scores > scores[at]).sum()), int((scores == scores[at]).sum()) - 1
    return Full(place + 1, above, equal, items)


def eligible_items(choice: Choice, world: World) -> int:
    """The items of the catalogue that the recipe may show to the person."""
    count = world.items.count
    if world.recipe.repeat.click != NEVER:
        return count
    seen = np.unique(world.items.locate(choice.person.seen["item"].astype(np.uint64)))
    return count - int(world.items.in_catalogue[seen[seen > 0]].sum())


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
            weights = {source.name: 1.0}
            yield source.name, msgspec.structs.replace(product, weights=weights, ranker=False)
