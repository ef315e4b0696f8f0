"""The decision by the kernel: one call of C for a request, and the `Decision` made of what it writes.

`decide.decide_by_numpy` defines it. C stops where it needs what Python computes (`handed`), and goes on.
"""

from __future__ import annotations

from typing import Any, Final

from models.kernels.loading import kernel
from serving.decide.asked import fill
from serving.decide.case import Ask, Case, World
from serving.decide.entries import Entries
from serving.decide.handed import Handed
from serving.decide.person import EMPTY_PERSON, Person
from serving.decide.plan import planned, row_layout
from serving.decide.pool import MAX_SCORED
from serving.decide.prepared import Prepared
from serving.decide.results import Decision, Explain, OnStage
from serving.decide.workspace import Workspace, give_back, take
from serving.decide.written import decision

MAX_PREPARED: Final = 64
"""Recipes of placements, windows and releases that are kept prepared; the one not asked for longest goes."""
_BUILT_IN: Final = ("popular", "fresh", "explore")
"""Sources that the recipe or the number of items may need without a weight; of foreign ones the case says."""
if kernel is not None:
    _begin, _run = kernel.lib.decision_begin, kernel.lib.decision_run
    _LAYOUT: Any = row_layout()


def decide(
    entries: Entries, person: Person, world: World, ask: Ask, explain: Explain, on_stage: OnStage
) -> Decision | None:
    """The slate for `person`; None where the arrays of C have no room for the recipe. A kernel is there."""
    work = take()
    try:
        prepared = _prepared(entries, work, person, world, ask)
        if prepared is None:
            return None
        work.make_room_for(MAX_SCORED + ask.count)
        fill(work, prepared.ranks, person, world, ask, explain)
        _begin(work.d)
        need = _run(work.d)
        if need:
            handed = Handed(entries, work, prepared.plan, person, world, ask)
            while need:
                handed.answer(need)
                need = _run(work.d)
        return decision(work, prepared.plan, prepared.reasons, world, ask, explain, on_stage)
    finally:
        give_back(work)


def _prepared(
    entries: Entries, work: Workspace, person: Person, world: World, ask: Ask
) -> Prepared | None:
    """What is prepared for such a request, as of now, in force in the workspace."""
    needed: tuple[str, ...] = ()
    if entries.foreign:
        case = Case(person, world, ask)
        needed = tuple([source.name for source in entries.foreign if source.needed(case)])
    key = (
        id(entries),
        id(world.recipe),
        id(world.release),
        id(world.items),
        id(world.tables),
        id(world.space),
        ask.window,
        ask.placement,
        ask.count > 1,
        needed,
    )
    found: Prepared | None = work.prepared.pop(key, None)
    if found is None:
        found = _prepare(entries, work, key, needed, world, ask)
        if found is None:
            return None
    work.prepared[key] = found  # the last one asked for is last
    found.renew(world, ask)
    if found is not work.current:
        work.current, d = found, work.d
        d.layout, d.plan = _LAYOUT, found.plan.struct
        d.items, d.tables, d.space = found.items, found.tables, found.space
    work.make_slots(len(world.items.hash))
    return found


def _prepare(
    entries: Entries,
    work: Workspace,
    key: tuple[Any, ...],
    needed: tuple[str, ...],
    world: World,
    ask: Ask,
) -> Prepared | None:
    weights, case = world.weights, Case(EMPTY_PERSON, world, ask)
    asked = [
        it
        for it in entries.sources
        if weights.get(it.name) or it.name in needed or (it.name in _BUILT_IN and it.needed(case))
    ]
    plan = planned(world, ask.window, asked, entries)
    if plan is None:
        return None
    held = work.prepared
    if len(held) >= MAX_PREPARED:
        del held[next(iter(held))]
    # where a part of the world is gone, another may get its id
    return Prepared(world, ask, plan, entries, lambda: held.pop(key, None))
