"""RULES: which items must not be shown. A new rule is a function and a line here.

The rules run before anything is scored or drawn; a candidate that they removed does not come back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.lookup import among
from serving.decide.case import Case
from serving.decide.results import SEEN, VARIANT
from serving.world.catalogue import Mask, Slots


class Rule(NamedTuple):
    """`removes(case, slots)`: (n,) which of the candidates it removes; None where the rule does not apply."""

    name: str
    removes: Callable[[Case, Slots], Mask | None]


class Verdict(NamedTuple):
    """`kept`: numbers of the candidates that pass, ascending. `removed`: rule -> numbers of those that it
    removed, each candidate under the first rule that did."""

    kept: NDArray[np.intp]
    removed: dict[str, NDArray[np.intp]]


def unavailable(case: Case, slots: Slots) -> Mask:
    """Not in the catalogue, not available, not yet published, or expired."""
    items, now = case.world.items, case.ask.now
    return (items.until[slots] <= now) | (items.published[slots] > now)


def blocked(case: Case, slots: Slots) -> Mask:
    """Hidden, disliked or never to be repeated, in view, or excluded by the request (`Case.blocked`)."""
    return among(case.blocked, slots, len(case.world.items.hash))


def seen(case: Case, slots: Slots) -> Mask | None:
    """Acted on by the person, and the recipe's `repeat` is not over (`Case.waiting`)."""
    if not len(case.person.seen):
        return None
    return among(case.waiting, slots, len(case.world.items.hash))


def served(case: Case, slots: Slots) -> Mask | None:
    """On an earlier page of this list, or a variant of what is."""
    if not case.ask.served:
        return None
    items, earlier = case.world.items, np.frombuffer(case.ask.served, "<u4")
    shown = np.isin(items.hash[slots].astype(np.uint32), earlier)
    if items.groups:
        groups = items.group[slots]
        shown |= (groups > 0) & np.isin(items.groups.hashes[groups].astype(np.uint32), earlier)
    return shown


def variant(case: Case, slots: Slots) -> Mask | None:
    """A variant of what is in view, or in another row of the page. `groups.choose` adds the variants of what
    this slate shows."""
    items = case.world.items
    if not items.groups:
        return None
    named = [items.groups.find(name) or 0 for name in case.ask.groups]
    shown = {*named, int(items.group[case.in_view])} - {0}
    return np.isin(items.group[slots], list(shown)) if shown else None


def category(case: Case, slots: Slots) -> Mask | None:
    """In none of its categories the one asked for."""
    if case.category is None:
        return None
    return ~case.world.items.memberships.has(slots, case.category)


def hidden_item(case: Case, slots: Slots) -> Mask | None:
    """An item that the person's preferences hide."""
    preferences = case.person.preferences
    if preferences is None or not preferences.hidden_items:
        return None
    items = case.world.items
    return np.isin(slots, [items.find(item_id) for item_id in preferences.hidden_items])


def hidden_category(case: Case, slots: Slots) -> Mask | None:
    """In a category that the person's preferences hide, primary or not."""
    preferences = case.person.preferences
    if preferences is None or not preferences.hidden_categories:
        return None
    items = case.world.items
    hidden = items.categories.found(preferences.hidden_categories)
    return items.memberships.has_any(slots, hidden)


def hidden_owner(case: Case, slots: Slots) -> Mask | None:
    """Of an owner that the person's preferences hide."""
    preferences = case.person.preferences
    if preferences is None or not preferences.hidden_owners:
        return None
    items = case.world.items
    hidden = [number for name in preferences.hidden_owners if (number := items.owners.find(name))]
    return np.isin(items.owner[slots], hidden)


def named_filter(case: Case, slots: Slots) -> Mask | None:
    """Outside the filter asked for."""
    wanted, items = case.ask.filter, case.world.items
    if wanted is None:
        return None
    outside = ~case.world.filters.mask(wanted)[slots]
    if wanted.published_within_days is not None:
        outside |= items.published[slots] <= case.days_ago(wanted.published_within_days)
    return outside


RULES: Final = (
    Rule("unavailable", unavailable),
    Rule("blocked", blocked),
    Rule("served", served),
    Rule("category", category),
    Rule("filter", named_filter),
    Rule("hidden_item", hidden_item),
    Rule("hidden_category", hidden_category),
    Rule("hidden_owner", hidden_owner),
    Rule(VARIANT, variant),
    # last, so that it removes only what every other rule keeps: that may fill a slate
    Rule(SEEN, seen),
)


def eligible(case: Case, slots: Slots) -> Verdict:
    """Which candidates may be shown, and which rule removed each of the others."""
    kept = np.ones(len(slots), np.bool_)
    removed = {}
    for rule in RULES:
        removes = rule.removes(case, slots)
        if removes is not None:
            removed[rule.name] = np.flatnonzero(removes & kept)
            kept &= ~removes
    return Verdict(np.flatnonzero(kept), removed)
