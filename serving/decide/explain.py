"""Why an item is shown: the contributions to its score, out of the numbers that ranked it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.decide.case import Case
from serving.decide.columns import ALL_COLUMNS
from serving.decide.pool import Pool
from serving.decide.results import (
    LISTED,
    MAX_NEW_DAYS,
    MIN_SIMILAR_COSINE,
    NEW,
    TASTE,
    Contribution,
    Ranked,
    Reason,
    Scored,
)
from serving.world.catalogue import UNDATED

REASONS: Final = {column.name: column.reason for column in ALL_COLUMNS}


def contributions(
    case: Case, scored: Scored, ranked: Ranked, place: int
) -> tuple[Contribution, ...]:
    """The contribution of each column to the candidate at `place` of `scored`, largest effect first."""
    weights = case.world.weights
    found = [
        Contribution(name, float(value[place]), float(value[place]) * weights[name])
        for name, value in scored.values.items()
    ]
    before_fatigue = float(ranked.before_fatigue[place])
    for prediction in ranked.predictions[ranked.reranked == place].tolist():
        found.append(Contribution("ranker", prediction, before_fatigue))
    if ranked.fatigue is not None and ranked.fatigue[place]:
        effect = float(ranked.scores[place]) - before_fatigue
        found.append(Contribution("fatigue", float(ranked.fatigue[place]), effect))
    return tuple(sorted(found, key=lambda contribution: -contribution.effect))


def reasons(case: Case, pool: Pool, scored: Scored, places: list[int]) -> list[Reason]:
    """The reason of each candidate at `places`: the one of its largest contribution above 0."""
    chosen = scored.kept[places].tolist() if places else []
    largest = _largest(case, scored, places)
    explains = "covisit" in largest and "covisit" in pool.retrieved
    because = _because(pool, chosen) if explains else {}
    found = []
    for candidate, kind in zip(chosen, largest, strict=True):
        slot = int(pool.slots[candidate])
        if kind == "covisit":
            entry = because.get(candidate)
            # the interest is in the candidate's own list (`covisit_back`), in no list of the interest
            found.append(TASTE if entry is None else _watched(case, entry))
        elif kind == "content":
            found.append(_similar(case, case.world.items.vectors, slot))
        elif kind == "vector" and case.world.space is not None:
            found.append(_similar(case, case.world.space.vectors, slot))
        elif kind == "category":
            found.append(Reason("category", f"More {_category(case, slot)} for you"))
        elif kind == "popular":
            found.append(_popular(case))
        else:
            found.append(NEW if _is_new(case, slot) else LISTED)
    return found


def _is_new(case: Case, slot: int) -> bool:
    items = case.world.items
    published = items.published[slot]
    dated = published != UNDATED
    return bool(items.titled[slot] and not (dated and published <= case.days_ago(MAX_NEW_DAYS)))


def _largest(case: Case, scored: Scored, places: list[int]) -> list[str]:
    """`Column.reason` of the largest effect on each, "" where none is above 0."""
    explaining = [
        (REASONS[name], name, value) for name, value in scored.values.items() if REASONS[name]
    ]
    if not places or not explaining:
        return [""] * len(places)
    weights = case.world.weights
    effects = np.array([value[places] * weights[name] for _, name, value in explaining])
    best = effects.argmax(axis=0)
    return [
        explaining[row][0] if effects[row, i] > 0 else "" for i, row in enumerate(best.tolist())
    ]


def _because(pool: Pool, chosen: list[int]) -> dict[int, int]:
    """Candidate -> the entry of the interest that added most to its co-visitation score, where one did.

    An entry adds the score that its list of neighbours has for the candidate; of equal ones the newer wins.
    """
    if "covisit" not in pool.retrieved:
        return {}
    retrieved, numbers = pool.retrieved["covisit"], pool.numbers["covisit"]
    is_chosen = np.zeros(len(pool.slots), np.bool_)
    is_chosen[chosen] = True
    hits = np.flatnonzero(is_chosen[numbers])
    best: dict[int, tuple[float, int]] = {}
    for candidate, value, entry in zip(
        numbers[hits].tolist(),
        retrieved.values[hits].tolist(),
        retrieved.entries[hits].tolist(),
        strict=True,
    ):
        if candidate not in best or value > best[candidate][0]:
            best[candidate] = (value, entry)
    return {candidate: entry for candidate, (_, entry) in best.items()}


def _watched(case: Case, entry: int) -> Reason:
    if entry == 0 and case.interest.in_view:
        return _like(case, entry)
    item_id, title = _named(case, int(case.interest.slots[entry]))
    return Reason("because_you_watched", f"Because you watched {title}", (item_id,))


def _similar(case: Case, vectors: NDArray[np.float32], slot: int) -> Reason:
    """Names the entry of the interest that adds most to the cosine, if it is similar to the item itself."""
    interest = case.interest
    if not len(interest.slots):
        return TASTE
    cosines: NDArray[np.float32] = vectors[interest.slots] @ vectors[slot]
    entry = int((cosines * interest.weights).argmax())
    return _like(case, entry) if cosines[entry] >= MIN_SIMILAR_COSINE else TASTE


def _like(case: Case, entry: int) -> Reason:
    item_id, title = _named(case, int(case.interest.slots[entry]))
    return Reason("similar_to", f"Similar to {title}", (item_id,))


def _popular(case: Case) -> Reason:
    name = case.ask.category
    return Reason("popular", f"Popular in {name}" if name else "Popular now")


def _named(case: Case, slot: int) -> tuple[str, str]:
    items = case.world.items
    return items.ids[slot], items.titles[slot] or items.ids[slot]


def _category(case: Case, slot: int) -> str:
    items = case.world.items
    return items.categories.texts[int(items.category[slot])]
