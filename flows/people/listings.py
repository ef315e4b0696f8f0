"""Which items a span of a read lists: from these records on, the facts about them count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from schemas.events import Event, Listed, Merge
from schemas.state import facts


def listings_of(
    records: Iterable[tuple[int, Event]], first: int, new_merges: set[int]
) -> facts.Listings:
    """The items that the roll-up's marks list, and those whose actions an id that was linked took back: its
    own partition has the facts of them. `records`: (offset, event); `new_merges`: offsets of merges that were
    not received before."""
    listed = [
        (offset - first, item)
        for offset, event in records
        for item in _listed_by(event, offset in new_merges)
    ]
    if not listed:
        return facts.NO_LISTINGS
    delta, item = zip(*listed, strict=True)
    return facts.Listings(np.array(delta, np.uint32), np.array(item, np.uint64))


def _listed_by(event: Event, new: bool) -> Iterator[int]:
    if isinstance(event, Listed):
        yield from event.items
    reversal = event.reversal if isinstance(event, Merge) and new else None
    if reversal is not None and reversal.known:
        yield reversal.item
