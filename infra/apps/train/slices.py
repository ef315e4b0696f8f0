"""Slices of the choices that judge: in none of them may a release be worse than its best rival."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from infra.apps.train.log import Interactions
from models.arrays import I64, U64, Mask
from schemas.identity import item_hash
from schemas.items import Item

FEW: Final = 5
"""Fewer acts than so many make a person, or an item, a nearly new one."""
POWER_SHARE: Final = 0.1
"""The share of the people judged, those with the most acts, who are power users."""
CATEGORIES: Final = 5
"""The largest ones, by choices."""


def slices(acts: Interactions, at: I64, cut: int, items: Sequence[Item]) -> dict[str, Mask]:
    """By name, which of the choices `at` (n,), indices in `acts`, are in the slice; `cut` (ms): what is
    before it is known of people and items."""
    before = np.flatnonzero(acts.time < cut)
    people = int(acts.person.max(initial=-1)) + 1
    of_person = np.bincount(acts.person[before], minlength=people)[acts.person[at]]
    numbers, of = np.unique(acts.item, return_inverse=True)
    of_item = np.bincount(of[before], minlength=len(numbers))[of[at]]
    found = {
        "new people": of_person == 0,
        "people with few acts": (of_person > 0) & (of_person < FEW),
        "new items": of_item < FEW,
        "power users": _power_users(acts, at),
    }
    return found | _categories(acts, at, items)


def established(acts: Interactions, cut: int) -> U64:
    """Hashes of the items that are not nearly new at `cut` (ms)."""
    items, count = np.unique(acts.item[acts.time < cut], return_counts=True)
    return items[count >= FEW]


def _power_users(acts: Interactions, at: I64) -> Mask:
    judged, index = np.unique(acts.person[at], return_inverse=True)
    counts = np.bincount(acts.person)[judged] if len(judged) else np.empty(0, np.int64)
    most = np.argsort(-counts, kind="stable")[: int(POWER_SHARE * len(judged))]
    found: Mask = np.isin(index, most)
    return found


def _categories(acts: Interactions, at: I64, items: Sequence[Item]) -> dict[str, Mask]:
    names = {item_hash(item.item_id): item.category for item in items}
    chosen = [names.get(item, "") for item in acts.item[at].tolist()]
    largest = [name for name, _ in Counter(filter(None, chosen)).most_common(CATEGORIES)]
    of = np.array(chosen, np.str_)
    return {f"category {name}": of == name for name in largest}


def indices(acts: Interactions, partition: I64, offset: I64) -> I64:
    """(n,) index in `acts` of each action, named by partition and offset; every one is there."""
    keys = zip(acts.partition.tolist(), acts.offset.tolist(), strict=True)
    places = {key: n for n, key in enumerate(keys)}
    wanted = zip(partition.tolist(), offset.tolist(), strict=True)
    return np.array([places[key] for key in wanted], np.int64)
