"""One recommendation: retrieve > eligible > score > arrange > explain, a stage a line.

`decide` is a function of its arguments alone: no clock, no socket, no randomness. Read, assign and
log stand around it (`serving.read_routes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from serving.arrange import CATEGORY_CAP, HEAD, Arranged, arrange, cap
from serving.case import Ask, Case, World
from serving.explain import Contribution, Reason, contributions, reasons
from serving.person import Person
from serving.rules import eligible
from serving.score import Scored, score
from serving.sources import Pool, retrieve

DEEPER: Final = 50
AT_ONCE: Final = 50
Explain = Literal["none", "reason", "full"]
Tick = Callable[[str], None]


class Shown(NamedTuple):
    """One item of a slate. `sources` brought it; `contributions` only where all was asked for."""

    slot: int
    item_id: str
    score: float
    category: str
    reason: Reason | None
    sources: tuple[str, ...]
    contributions: tuple[Contribution, ...]


class Decision(NamedTuple):
    """`fallback`: the reason for a lesser answer, else None. `exhausted`: there is no more."""

    items: list[Shown]
    fallback: str | None
    relaxed: tuple[str, ...]
    exhausted: bool


def decide(
    person: Person,
    world: World,
    ask: Ask,
    explain: Explain = "reason",
    tick: Tick = lambda stage: None,
) -> Decision:
    """What to show `person`, of `world`, as they `ask`. `tick` is called as each stage ends."""
    case = Case(person, world, ask)
    for depth in _depths(world):
        pool = retrieve(case, depth)
        tick("retrieve")
        kept, _removed = eligible(case, pool.slots)
        tick("eligible")
        scored = score(case, pool, kept)
        tick("score")
        arranged = _arrange(case, pool, scored)
        tick("arrange")
        if not _lacks(case, arranged):
            break
    items = _explained(case, pool, scored, arranged, explain)
    tick("explain")
    exhausted = len(items) < ask.count or len(kept) == len(items)
    return Decision(items, _fallback(case, pool), arranged.relaxed, exhausted)


def _depths(world: World) -> Iterator[int]:
    """How deep to look, until that is enough: for most, the recipe's depth is."""
    depth = max(1, world.recipe.depth)
    yield depth
    while depth < world.items.count:
        depth *= DEEPER
        yield depth


def _arrange(case: Case, pool: Pool, scored: Scored) -> Arranged:
    share = case.world.recipe.category_cap
    lifted = case.ask.category is not None and share < 1
    return arrange(_in_order(case, pool, scored), case.ask.count, share, lifted=lifted)


def _in_order(case: Case, pool: Pool, scored: Scored) -> Iterator[tuple[int, int]]:
    """Place and primary category of each candidate, best first; most slates need but a few."""
    for at in range(0, len(scored.order), AT_ONCE):
        places = scored.order[at : at + AT_ONCE]
        categories = case.world.items.category[pool.slots[scored.kept[places]]]
        yield from zip(places.tolist(), categories.tolist(), strict=True)


def _lacks(case: Case, arranged: Arranged) -> bool:
    """Whether more candidates could make the slate longer, or spare it a broken cap."""
    if len(arranged.places) < case.ask.count:
        return True
    if CATEGORY_CAP not in arranged.relaxed or case.ask.category is not None:
        return False
    count = case.ask.count
    most = case.world.items.primary_categories * cap(case.world.recipe.category_cap, count)
    return most >= min(HEAD, count)


def _explained(
    case: Case, pool: Pool, scored: Scored, arranged: Arranged, explain: Explain
) -> list[Shown]:
    items, places = case.world.items, arranged.places
    candidates = scored.kept[places].tolist() if places else []
    why: list[Reason | None] = [None] * len(places)
    if explain != "none":
        why = list(reasons(case, pool, scored, places))
    slots = pool.slots[candidates].tolist()
    totals, categories = scored.totals[places].tolist(), items.category[slots].tolist()
    return [
        Shown(
            slot=slot,
            item_id=items.ids[slot],
            score=total,
            category=items.categories.texts[category],
            reason=reason,
            sources=sources,
            contributions=contributions(case, scored, place) if explain == "full" else (),
        )
        for place, slot, total, category, reason, sources in zip(
            places, slots, totals, categories, why, pool.provenance(candidates), strict=True
        )
    ]


def _fallback(case: Case, pool: Pool) -> str | None:
    if not len(case.interest.slots):
        return "popular"
    for source, fallback in (("covisit", None), ("content", "content")):
        if source in pool.drawn and len(pool.drawn[source].slots):
            return fallback
    return "popular"
