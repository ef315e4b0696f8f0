"""Where an entry of facts is cut, so that what waits follows the log and not the cut of the log."""

from __future__ import annotations

import numpy as np

from models.aggregates.listed_items import ListedItems
from models.aggregates.numbers import DenseNumbers
from models.arrays import U64
from schemas.state.facts import BACK, Delta


def steps(
    items: DenseNumbers, listed: ListedItems, partition: int, entry: Delta
) -> list[tuple[int, int | None, U64 | None]]:
    """Where the facts are cut, ascending: a fact index, and the new day or the ids listed there. What is
    taken back of an item that waits is a step by itself."""
    actions, n = entry.actions, len(entry.actions.item)
    cuts: list[tuple[int, int, int | None, U64 | None]] = []
    if len(entry.days.day):
        at = np.searchsorted(actions.delta, entry.days.delta)
        offsets = entry.days.delta.tolist()
        cuts += [
            (i, 2 * offset, day, None)
            for i, offset, day in zip(at.tolist(), offsets, entry.days.day.tolist(), strict=True)
        ]
    if len(entry.listings.item):
        delta, first = np.unique(entry.listings.delta, return_index=True)
        ids = np.split(entry.listings.item, first[1:])
        at = np.searchsorted(actions.delta, delta)
        cuts += [
            (i, 2 * offset + 1, None, each)
            for i, offset, each in zip(at.tolist(), delta.tolist(), ids, strict=True)
        ]
    back = np.flatnonzero(actions.flags & BACK)
    if len(back):
        back = back[~listed.of(partition, items.find(actions.item[back]))]
        cuts += [(at, -1, None, None) for i in back.tolist() for at in (i, i + 1)]
    cuts.sort(key=lambda step: step[:2])
    return [*((i, day, ids) for i, _, day, ids in cuts), (n, None, None)]
