"""Actions that come under two ids of a person: an order that the shop's page sent for a guest, and its server
for the user. Once both are linked, the list holds one of them."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.arrays import Mask
from models.features import ring
from models.features.columns import Columns
from schemas.actions import RECENT
from schemas.events import Merge, MergedAction


def repeated(row: np.void, merge: Merge) -> list[MergedAction]:
    """The merge's actions that the list holds already: of the same identity, item and action."""
    if not merge.recent:
        return []
    held = {(identity, item, action) for _, item, _, action, identity, _ in ring.keys(row)}
    return [it for it in merge.recent if it.identity and (it.identity, it.item, it.action) in held]


def without(merge: Merge, actions: list[MergedAction]) -> Merge:
    """The merge as if these of its actions had not been."""
    if not actions:
        return merge
    counts = list(merge.counts)
    for action in actions:
        counts[action.action] -= 1
    rest = tuple(it for it in merge.recent if it not in actions)
    entered = merge.entered - len(actions)
    return msgspec.structs.replace(merge, counts=tuple(counts), entered=entered, recent=rest)


def again(rows: NDArray[np.void], acts: Columns, people: Mask) -> Mask:
    """(n,) the actions that the list held just before them, from a merge: of the same identity, item and
    action. `people` (U,): those who are looked at."""
    found = np.zeros(len(acts), np.bool_)
    at = np.flatnonzero(people[acts.who])
    held = rows["ring"][acts.who[at]]
    same = held["flags"] & ring.MERGED > 0
    for name in ("identity", "item", "action"):
        same &= held[name] == getattr(acts, name)[at, None]
    for i in at[same.any(1)].tolist():
        found[i] = _held(rows[acts.who[i]], acts, i, found)
    return found


def _held(row: np.void, acts: Columns, i: int, repeats: Mask) -> bool:
    """Whether the list still holds the entry of action `i` after the actions before it in this batch."""
    mine = int(acts.identity[i]), int(acts.item[i]), int(acts.action[i])
    keys = ring.keys(row)
    entry = next(key for key in keys if (key[4], key[1], key[3]) == mine and key[5] & ring.MERGED)
    newer = sum(key > entry for key in keys)
    for j in range(int(acts.start[acts.who[i]]), i):
        if RECENT[acts.action[j]] and not acts.late[j] and not repeats[j]:
            columns = (acts.time, acts.item, acts.category, acts.action, acts.identity)
            newer += tuple(int(column[j]) for column in columns) > entry[:5]
    return newer < ring.RING_SIZE
