"""SOURCES: where candidates come from. A new source is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.exploration import random_word
from models.lookup import last_places
from schemas.identity import item_hash
from schemas.state.counting import Mix, only
from schemas.state.tables import WINDOWS
from serving.decide.case import MINUTE_MS, Case
from serving.decide.groups import most_wanted, variants
from serving.decide.pool import (
    LARGE_CATEGORY,
    MAX_SCORED,
    UNLIMITED_DAYS,
    Places,
    Pool,
    Retrieved,
)
from serving.world.catalogue import Slots
from serving.world.index import VectorIndex
from serving.world.tables import Tables


class Source(NamedTuple):
    """`retrieve(case, depth)`: about `depth` candidates, in an order that does not depend on slot numbers.

    A source is used where it has a weight or is `needed`.
    """

    name: str
    retrieve: Callable[[Case, int], Retrieved]
    needed: Callable[[Case], bool] = lambda case: False


CANDIDATES_PER_SEARCH: Final = 100
"""At most so many come from a vector search or from exploration: more cost time and rarely reach a slate."""
NO_CANDIDATES: Final = Retrieved(np.empty(0, np.int32), np.empty(0), np.empty(0, np.intp))
_Key = tuple[str, int, int]
# the last result of `explore` by placement, because each one takes a pass over the whole catalogue
_LEAST_SERVED: Final[WeakKeyDictionary[Tables, dict[str, tuple[_Key, Slots]]]] = WeakKeyDictionary()


def unscored(slots: Slots) -> Retrieved:
    """`slots` in their order, without values and entries."""
    return Retrieved(slots, np.zeros(len(slots)), np.zeros(len(slots), np.intp))


def covisit(case: Case, depth: int) -> Retrieved:
    """The published neighbours of the interest's entries; value = score x weight of the entry."""
    if not len(case.interest.slots):
        return NO_CANDIDATES
    lists, (places, entries) = case.world.tables.neighbours, case.interest_lists
    values = lists.scores.take(places) * case.interest.weights.take(entries)
    return Retrieved(lists.slots.take(places), values, entries)


def vector(case: Case, depth: int) -> Retrieved:
    """The items nearest to the person's vector in the release's space, by cosine."""
    if case.world.space is None or case.vector is None:
        return NO_CANDIDATES
    return _nearest(case.world.space, case.vector, depth)


def content(case: Case, depth: int) -> Retrieved:
    """The items nearest to the person's content vector, by cosine."""
    if not len(case.interest.slots):
        return NO_CANDIDATES
    return _nearest(case.world.index, case.likeness, depth)


def popular(case: Case, depth: int) -> Retrieved:
    """The most popular items (of the category or filter asked for), then the newest."""
    return _popular(case, case.mix, depth)


def _popular_by(window: str) -> Callable[[Case, int], Retrieved]:
    mix = only(window)

    def retrieve_by(case: Case, depth: int) -> Retrieved:
        """As `popular`, by this window."""
        return _popular(case, mix, depth)

    return retrieve_by


def _popular(case: Case, mix: Mix, depth: int) -> Retrieved:
    if case.category is not None:
        return unscored(_popular_in(case, case.category, mix, depth))
    slots, wanted = case.world.tables.popular(mix), case.ask.filter
    if wanted is not None:
        slots = slots[case.world.filters.mask(wanted)[slots]]
    return unscored(slots[:depth])


def _popular_in(case: Case, category: int, mix: Mix, depth: int) -> Slots:
    """The most popular items of a category and the filter. Of a small category all its items are ranked; for
    a large one the whole order is read from its start until there are enough."""
    tables, wanted = case.world.tables, case.ask.filter
    memberships, mask = case.world.items.memberships, None
    if wanted is not None:
        mask = case.world.filters.mask(wanted)
    order = tables.popular(mix)
    if memberships.size(category) * LARGE_CATEGORY < len(order):
        slots = memberships.slots(category)
        return tables.most_popular(slots if mask is None else slots[mask[slots]], mix, depth)
    found, n, start, size = [order[:0]], 0, 0, depth * LARGE_CATEGORY
    while n < depth and start < len(order):
        chunk = order[start : start + size]
        passes = memberships.has(chunk, category)
        if mask is not None:
            passes &= mask[chunk]
        found.append(chunk[passes])
        n, start, size = n + len(found[-1]), start + size, size * 2
    return np.concatenate(found)[:depth]


def fresh(case: Case, depth: int) -> Retrieved:
    """The items with a title published last, within the recipe's `fresh_days` where it has them."""
    after = case.days_ago(case.world.recipe.fresh_days or UNLIMITED_DAYS)
    return unscored(case.world.items.published_between(after, case.ask.now)[:depth])


def explore(case: Case, depth: int) -> Retrieved:
    """The items that this placement served least, of those with a title that it can show this minute.

    A hash that each version of the tables mixes anew breaks ties, so in time each item comes first. It does
    not depend on the request's seed: the seed must not change the set that is drawn from.
    """
    return unscored(least_served(case)[:depth])


def least_served(case: Case) -> Slots:
    """What `explore` brings, of any depth."""
    items, tables, ask = case.world.items, case.world.tables, case.ask
    minute = ask.now // MINUTE_MS * MINUTE_MS
    key = (tables.version, items.revision, minute)
    cached = _LEAST_SERVED.setdefault(tables, {})
    if ask.placement not in cached or cached[ask.placement][0] != key:
        cached[ask.placement] = (key, _least_served(case, minute))
    return cached[ask.placement][1]


def _least_served(case: Case, now: int) -> Slots:
    items = case.world.items
    offered = items.in_catalogue & items.titled & (items.until > now) & (items.published <= now)
    slots = np.flatnonzero(offered).astype(np.int32)
    if items.groups:  # one variant of each
        chosen = most_wanted(case, slots, np.ones(len(slots), np.bool_))
        slots = slots[chosen == np.arange(len(slots))]
    counts, mixed = case.served(slots), items.hash[slots] ^ _mix(case.world.tables)
    if len(slots) > CANDIDATES_PER_SEARCH:
        # no sort of all: the items below the cut, and the first of those at it
        cut = np.partition(counts, CANDIDATES_PER_SEARCH - 1)[CANDIDATES_PER_SEARCH - 1]
        below, at_cut = np.flatnonzero(counts < cut), np.flatnonzero(counts == cut)
        room = CANDIDATES_PER_SEARCH - len(below)
        near = np.concatenate([below, at_cut[np.argpartition(mixed[at_cut], room - 1)[:room]]])
        slots, counts, mixed = slots[near], counts[near], mixed[near]
    return slots[np.lexsort((mixed, counts))]


def _mix(tables: Tables) -> np.uint64:
    return np.uint64(random_word(item_hash(tables.version), 0))


def _nearest(index: VectorIndex, query: NDArray[np.float32], depth: int) -> Retrieved:
    slots, similarity = index.search(query, min(depth, CANDIDATES_PER_SEARCH))
    return Retrieved(slots, similarity.astype(np.float64), np.zeros(len(slots), np.intp))


POPULAR_BY: Final = {f"popular_{window}": _popular_by(window) for window in WINDOWS}


def _no_other_popularity(case: Case) -> bool:
    return not any(case.world.weights.get(name) for name in POPULAR_BY)


SOURCES: Final = (
    Source("covisit", covisit),
    Source("vector", vector),
    Source("content", content),
    Source("popular", popular, needed=_no_other_popularity),
    *(Source(name, retrieve_by) for name, retrieve_by in POPULAR_BY.items()),
    Source("fresh", fresh, needed=lambda case: case.world.recipe.fresh_days > 0),
    Source("explore", explore, needed=lambda case: case.explores),
)


def retrieve(case: Case, depth: int) -> Pool:
    """The pool of what the sources bring: those with a weight, and those that are needed. Behind these come
    the variants of their groups that none of them brought."""
    weights = case.world.weights
    retrieved = {
        source.name: source.retrieve(case, depth)
        for source in SOURCES
        if weights.get(source.name) or source.needed(case)
    }
    slots = np.concatenate([each.slots for each in retrieved.values()])
    if len(more := variants(case, slots)):
        slots = np.concatenate([slots, more])
    distinct, numbers = _distinct(slots, len(case.world.items.hash))
    pool = Pool(slots[distinct], retrieved, {})
    start = 0
    for name, each in retrieved.items():
        pool.numbers[name] = numbers[start : start + len(each.slots)]
        start += len(each.slots)
    return pool


def shortlist(pool: Pool, kept: Places, limit: int = MAX_SCORED) -> Places:
    """At most `limit` of the candidates `kept`, ascending: those that some source ranks highest among the
    kept ones it brought. So a source that brings few keeps them all."""
    if len(kept) <= limit:
        return kept
    keeps = np.zeros(len(pool.slots), np.bool_)
    keeps[kept] = True
    places = np.full(len(pool.slots), np.iinfo(np.int64).max)
    for index, source in enumerate(pool.numbers):
        order = pool.order(source)
        order = order[keeps[order]]
        # no two candidates share a place and a source, so there are no ties
        ranks = np.arange(len(order)) * len(pool.numbers) + index
        places[order] = np.minimum(places[order], ranks)
    return np.sort(kept[np.argpartition(places[kept], limit)[:limit]])


def _distinct(slots: Slots, capacity: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """(m,) mask of one entry per distinct slot, and for each entry the number of its slot among those.

    Without a sort: of the entries of one slot the last one wins.
    """
    winner = last_places(slots, slots, capacity)
    distinct = winner == np.arange(len(slots))
    return distinct, (distinct.cumsum() - 1)[winner]
