"""What one request asks, and the person, as the compiled decision reads them (`decision_ask`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel
from schemas.events import Preferences
from schemas.state.vectors import Vector
from serving.decide.case import Ask, Case, World, hashes_of
from serving.decide.person import Person
from serving.decide.pool import LARGE_CATEGORY
from serving.decide.results import Explain
from serving.decide.workspace import Workspace
from serving.world.tables import Tables

Ranks = Callable[[Tables], Mapping[int, tuple[Any, Any]]]
_EXPLAIN: Final = {"none": 0, "reason": 1, "full": 2}
_NO_CATEGORY: Final = -2
_UNKNOWN_CATEGORY: Final = -1
if kernel is not None:
    _ffi, _asked = kernel.ffi, kernel.lib.decision_asked
    _NULL: Any = _ffi.NULL


def fill(
    work: Workspace, ranks: Ranks, person: Person, world: World, ask: Ask, explain: Explain
) -> None:
    """Writes what is asked, and the person, into the workspace."""
    items, preferences = world.items, person.preferences
    row, seen, impressions = person.row_bytes, person.seen_bytes, person.impressions_bytes
    if row is not None:
        row = bytes(row)
        work.held.append(row)
    category = _NO_CATEGORY
    if ask.category is not None:
        found = items.categories.find(ask.category)
        category = _UNKNOWN_CATEGORY if found is None else found
    _asked(
        work.ask,
        ask.now,
        ask.count,
        ask.seed,
        ask.personalized and (preferences is None or preferences.personalized),
        _EXPLAIN[explain],
        items.find(ask.item_id) if ask.item_id else 0,
        category,
        _NULL if row is None else row,
        seen,
        len(seen),
        impressions,
        len(impressions),
        person.seen_is_whole,
        _stored_vector(person.vector, world),
    )
    if category != _NO_CATEGORY:
        _fill_category(work, ranks, world, category)
    if ask.filter is not None:
        work.ask.filter = _held(work, "uint8_t[]", world.filters.mask(ask.filter))
        if ask.filter.published_within_days is not None:
            days_ago = Case(person, world, ask).days_ago
            work.ask.filter_after = days_ago(ask.filter.published_within_days)
    if ask.exclude:
        work.ask.exclude = _held(work, "uint64_t[]", hashes_of(ask.exclude))
        work.ask.n_exclude = len(ask.exclude)
    if ask.served:
        work.ask.served = _held(work, "uint32_t[]", np.frombuffer(ask.served, "<u4"))
        work.ask.n_served = len(ask.served) // 4
    if ask.groups:
        _fill_numbers(work, "groups", [items.groups.find(name) or 0 for name in ask.groups])
    if preferences is not None:
        _fill_preferences(work, preferences, world)


def _stored_vector(stored: Vector | None, world: World) -> Any:
    """The person's vector as the flow stored it, where it is of the release and complete."""
    release = world.release
    if stored is None or release is None or stored.release != release.id or not stored.complete:
        return _NULL
    return stored.grid


def _fill_category(work: Workspace, ranks: Ranks, world: World, category: int) -> None:
    """Of a small category its items, which are ranked all; a large one is found along the order of all."""
    memberships, ask = world.items.memberships, work.ask
    if memberships.size(category) * LARGE_CATEGORY >= world.items.count:
        return
    slots = memberships.slots(category)
    ask.category_slots, ask.n_category_slots = _held(work, "int32_t[]", slots), len(slots)
    for source, pointers in ranks(world.tables).items():
        ask.category_rank[source][0], ask.category_rank[source][1] = pointers


def _fill_preferences(work: Workspace, preferences: Preferences, world: World) -> None:
    items, ask = world.items, work.ask
    ask.has_preferences = True
    if preferences.liked_categories:
        find = items.categories.find
        _fill_numbers(work, "liked", [find(name) or 0 for name in preferences.liked_categories])
    if preferences.hidden_items:
        ask.hides_items = True
        _fill_numbers(work, "hidden_items", [items.find(it) for it in preferences.hidden_items])
    if preferences.hidden_categories:
        ask.hides_categories = True
        numbers = items.categories.found(preferences.hidden_categories)
        _fill_numbers(work, "hidden_categories", list(numbers))
    if preferences.hidden_owners:
        ask.hides_owners = True
        numbers = {items.owners.find(name) or 0 for name in preferences.hidden_owners} - {0}
        _fill_numbers(work, "hidden_owners", list(numbers))


def _fill_numbers(work: Workspace, name: str, numbers: list[int]) -> None:
    setattr(work.ask, name, _held(work, "int32_t[]", np.array(numbers, np.int32)))
    setattr(work.ask, f"n_{name}", len(numbers))


def _held(work: Workspace, kind: str, array: NDArray[Any]) -> Any:
    pointer = _ffi.from_buffer(kind, array)
    work.held.append(pointer)
    return pointer
