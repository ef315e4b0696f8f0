"""COLUMNS: what a score is made of, and what a ranker may see. A new one is a function and a line here.

Values depend neither on the rate of events nor on the other candidates. A co-visitation score is a
probability, typically .01 to .1, which is why the built-in weights of the others are small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.affinity import affinity as decayed
from models.features.session import GAP_MS
from models.lookup import last_places
from schemas.releases import RENAMED
from schemas.state.counting import Mix, only
from schemas.state.tables import WINDOWS
from schemas.times import DAY_MS
from serving.decide.case import MINUTE_MS, Case
from serving.decide.pool import Kept, Pool
from serving.world.catalogue import UNDATED, Floats

FRESH_HALF_LIFE_DAYS: Final = 30
"""Half-life of the column `fresh`."""
_DAY: Final = only("24h")
_WEEK: Final = only("7d")
LOG_FLOOR: Final = 1e-3
"""Share of the most popular item's popularity below which the log-scaled columns go to 0."""
ReasonKind = Literal["", "covisit", "content", "vector", "popular", "category", "fresh"]


class Column(NamedTuple):
    """`value(case, pool, kept)`: (k,) for the candidates kept; None where there is no value for this person,
    which counts as 0. `reason`: the kind of reason where this column has the largest effect; "" is none."""

    name: str
    value: Callable[[Case, Pool, Kept], Floats | None]
    reason: ReasonKind = ""


def covisit(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Neighbour scores, averaged by weight over the person's interest: about p(item | interest)."""
    return pool.sums("covisit")[kept.numbers] if _has_neighbours(pool) else None


def covisit_best(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """The best score in the list of any one entry of the interest."""
    if not _has_neighbours(pool):
        return None
    best, retrieved = np.zeros(len(pool.slots)), pool.retrieved["covisit"]
    weights = case.interest.weights[retrieved.entries]
    # an entry may weigh nothing: fade 0
    scores = np.divide(retrieved.values, weights, out=np.zeros(len(weights)), where=weights > 0)
    np.maximum.at(best, pool.numbers["covisit"], scores)
    return best[kept.numbers]


def covisit_last(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """The score in the list of the newest entry."""
    if not _has_neighbours(pool):
        return None
    retrieved = pool.retrieved["covisit"]
    newest = np.flatnonzero(retrieved.entries == 0)
    scores = retrieved.values[newest] / case.interest.weights[0]
    last = np.bincount(pool.numbers["covisit"][newest], scores, len(pool.slots))
    return last[kept.numbers].astype(np.float64, copy=False)


def covisit_count(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """The share of the interest's entries whose lists hold the candidate, at most 1."""
    if not _has_neighbours(pool):
        return None
    counts = np.bincount(pool.numbers["covisit"], minlength=len(pool.slots))
    # a list may hold several variants of one group
    return np.minimum(counts[kept.numbers] / len(case.interest.slots), 1.0)


def covisit_back(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """The reverse: scores of the interest's entries in the candidate's own list, by weight: about
    p(interest | item). Only for the few that are ranked: it looks up one list a candidate."""
    interest, lists = case.interest, case.world.tables.neighbours
    if not len(interest.slots) or not len(kept.slots):
        return None
    places, owners = lists.of(kept.slots)
    capacity = len(case.world.items.hash)
    terms = case.summed_weights[last_places(interest.slots, lists.slots.take(places), capacity)]
    terms *= lists.scores.take(places)
    return np.bincount(owners, terms, len(kept.slots)).astype(np.float64, copy=False)


def next_item(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """The forward share in the list of the newest entry: how often the candidate came after it."""
    return _directed(case, pool, kept, case.world.tables.neighbours.forward, np.ones(1))


def forward(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Forward shares in the lists of the interest's entries, averaged by weight."""
    return _directed(case, pool, kept, case.world.tables.neighbours.forward, case.interest.weights)


def backward(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Backward shares in the lists of the interest's entries, averaged by weight."""
    return _directed(case, pool, kept, case.world.tables.neighbours.backward, case.interest.weights)


def _directed(
    case: Case, pool: Pool, kept: Kept, shares: NDArray[np.float16], weights: Floats
) -> Floats | None:
    """(k,) the sum of weight x share over the lists of the newest ``len(weights)`` entries; `shares` is a
    pool of `NeighbourLists`."""
    if not _has_neighbours(pool):
        return None
    places, entries = case.interest_lists
    n = int(np.searchsorted(entries, len(weights)))
    terms = shares[places[:n]] * weights[entries[:n]]
    # the source brings the lists in the order of the entries
    numbers = pool.numbers["covisit"][:n]
    return np.bincount(numbers, terms, len(pool.slots)).astype(np.float64)[kept.numbers]


def content(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Cosine of the candidate's content vector to the person's, at least 0."""
    if not len(case.interest.slots):
        return None
    return np.maximum(_cosines(case.world.items.vectors, kept, case.likeness), 0)


def content_last(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Cosine of content vectors to the newest entry of the interest alone, at least 0."""
    if not len(case.interest.slots):
        return None
    vectors = case.world.items.vectors
    return np.maximum(_cosines(vectors, kept, vectors[case.interest.slots[0]]), 0)


def vector(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Cosine to the person's vector in the release's space."""
    if case.world.space is None or case.vector is None:
        return None
    return _cosines(case.world.space.vectors, kept, case.vector)


def vector_last(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Cosine in the release's space to the newest entry of the interest alone."""
    if case.world.space is None or not len(case.interest.slots):
        return None
    vectors = case.world.space.vectors
    return _cosines(vectors, kept, vectors[case.interest.slots[0]])


def popular(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Popularity relative to the most popular item; of a variant, that of its group's candidates together."""
    return _popularity(case, pool, kept, case.mix)


def _popular_by(window: str) -> Callable[[Case, Pool, Kept], Floats]:
    mix = only(window)

    def value(case: Case, pool: Pool, kept: Kept) -> Floats:
        """As `popular`, by this window."""
        return _popularity(case, pool, kept, mix)

    return value


def _popularity(case: Case, pool: Pool, kept: Kept, mix: Mix) -> Floats:
    tables = case.world.tables
    if pool.chosen is None:
        return tables.share(kept.slots, mix)
    return pool.add_up(tables.share(pool.slots, mix))[kept.numbers]


def popular_like(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """How much more popular the candidate is than the person's interest: its log-scaled popularity less
    the weighted mean of the interest's, -1 to 1."""
    interest, tables = case.interest, case.world.tables
    if not len(interest.slots):
        return None
    terms = _scaled(tables.share(interest.slots, case.mix)) * interest.weights
    interest_mean = np.add.accumulate(terms)[-1]  # one after the other
    likeness: Floats = _scaled(tables.share(kept.slots, case.mix)) - interest_mean
    return likeness


def _log_popular_by(window: str) -> Callable[[Case, Pool, Kept], Floats]:
    mix = only(window)

    def value(case: Case, pool: Pool, kept: Kept) -> Floats:
        """Popularity by this window relative to the most popular item, log-scaled, 0 to 1."""
        return _scaled(case.world.tables.share(kept.slots, mix))

    return value


def trend(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Log-scaled popularity of a day less that of a week, -1 to 1: above 0 for what is on the rise."""
    share = case.world.tables.share
    rise: Floats = _scaled(share(kept.slots, _DAY)) - _scaled(share(kept.slots, _WEEK))
    return rise


def _scaled(share: Floats) -> Floats:
    return _rounded(np.log1p(share / LOG_FLOOR) / np.log1p(1 / LOG_FLOOR))


def _rounded(values: Floats) -> Floats:
    """To float32: in the last bit of float64, logarithms and powers depend on library and machine."""
    return np.asarray(values, np.float32).astype(np.float64)


def fresh(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """2^(-age / `FRESH_HALF_LIFE_DAYS`) since it was published; 0 without a date or a title."""
    items = case.world.items
    published, titled = items.published[kept.slots], items.titled[kept.slots]
    age = np.maximum(case.ask.now - np.maximum(published, 0), 0) / (FRESH_HALF_LIFE_DAYS * DAY_MS)
    return np.where((published != UNDATED) & titled, _rounded(np.exp2(-age)), 0.0)


def age(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """log(1 + days since it was published); 0 without a date."""
    published = case.world.items.published[kept.slots]
    days = np.maximum(case.ask.now - np.maximum(published, 0), 0) / DAY_MS
    return np.where(published != UNDATED, _rounded(np.log1p(days)), 0.0)


def shown(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Decayed impressions of the candidate on this person (`Case.shown`)."""
    return case.shown(kept.slots) if len(case.person.impressions) else None


def category(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """1 where the person's preferences like the primary category, else 0."""
    preferences = case.person.preferences
    if not case.personal or preferences is None or not preferences.liked_categories:
        return None
    items = case.world.items
    liked = np.zeros(len(items.categories.texts))
    liked[[items.categories.find(name) or 0 for name in preferences.liked_categories]] = 1
    liked[0] = 0
    return liked[items.category[kept.slots]]


def affinity(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """Affinity to the primary category, relative to the person's highest, -1 to 1."""
    if not case.personal:
        return None
    items = case.world.items
    hashes, sums = decayed(case.person.row, case.ask.now, categories_of=items.categories_of)
    top = sums.max(initial=0.0)
    if not top > 0:
        return None
    leaning = np.zeros(len(items.categories.texts))
    leaning[items.categories.numbers_of(hashes)] = _rounded(np.maximum(sums / top, -1))
    leaning[0] = 0
    return leaning[items.category[kept.slots]]


def same_category_last(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """1 where the primary category is that of the interest's newest entry, else 0."""
    if not len(case.interest.slots):
        return None
    categories = case.world.items.category
    newest = categories[case.interest.slots[0]]
    return (categories[kept.slots] == newest).astype(np.float64) if newest else None


def history(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """log(1 + the number of the person's actions), the same for every candidate."""
    return _log_of_all(kept, float(case.person.row["n"])) if case.personal else None


def session(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """log(1 + the number of actions in this session), 0 once it ended, the same for every candidate."""
    row = case.person.row
    if not case.personal or case.ask.now - int(row["session_last"]) > GAP_MS:
        return None
    return _log_of_all(kept, float(row["session_n"]))


def idle(case: Case, pool: Pool, kept: Kept) -> Floats | None:
    """log(1 + minutes since the newest action), the same for every candidate."""
    newest = int(case.person.row["newest"])
    if not case.personal or not newest:
        return None
    minutes = max(case.ask.now - newest, 0) / MINUTE_MS
    return _log_of_all(kept, minutes)


def _log_of_all(kept: Kept, number: float) -> Floats:
    """(k,) log(1 + number)."""
    return np.full(len(kept.slots), _rounded(np.log1p(number)))


def _has_neighbours(pool: Pool) -> bool:
    return "covisit" in pool.retrieved and len(pool.retrieved["covisit"].slots) > 0


def _cosines(vectors: NDArray[np.float32], kept: Kept, query: NDArray[np.float32]) -> Floats:
    # exact in float32, in any order of the sum (models.release.content)
    cosines: Floats = (vectors.take(kept.slots, 0) @ query).astype(np.float64)
    return cosines


COLUMNS: Final = (
    Column("covisit", covisit, "covisit"),
    Column("covisit_best", covisit_best, "covisit"),
    Column("covisit_last", covisit_last, "covisit"),
    Column("covisit_count", covisit_count, "covisit"),
    Column("covisit_back", covisit_back, "covisit"),
    Column("next", next_item, "covisit"),
    Column("forward", forward, "covisit"),
    Column("backward", backward, "covisit"),
    Column("vector", vector, "vector"),
    Column("vector_last", vector_last, "vector"),
    Column("content", content, "content"),
    Column("content_last", content_last, "content"),
    Column("popular", popular, "popular"),
    Column("popular_like", popular_like, "popular"),
    *(Column(f"popular_{window}", _popular_by(window), "popular") for window in WINDOWS),
    Column("trend", trend, "popular"),
    Column("fresh", fresh, "fresh"),
    Column("age", age),
    Column("category", category, "category"),
    Column("affinity", affinity, "category"),
    Column("same_category_last", same_category_last, "category"),
    Column("shown", shown),
    Column("history", history),
    Column("session", session),
    Column("idle", idle),
)
FORMAT_1_COLUMNS: Final = tuple(
    Column(name, _log_popular_by(before.removeprefix("popular_")), "popular")
    for before, name in RENAMED.items()
)
"""Columns of releases of format 1 that no later one is trained with."""
ALL_COLUMNS: Final = (*COLUMNS, *FORMAT_1_COLUMNS)
COLUMN_NAMES: Final = frozenset(column.name for column in ALL_COLUMNS)
"""The columns that a release may rank by or weigh; one that names another cannot be served."""
