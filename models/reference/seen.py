"""The slow definition of what a person has seen: one entry after another, a dict by item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from models import seen
from schemas.actions import ACTIONS
from schemas.events import Merge

SeenEntry = tuple[int, int, int]
"""(item, Unix seconds, bits)."""
_ACTED = {"view": 1, "click": 2, "like": 2, "share": 2, "cart": 2, "rate": 2, "purchase": 4}
_SHOWING = {"dislike": 8, "rated_down": 8, "hide": 16, "unhide": 32, "like": 32}
PURCHASE = _ACTED["purchase"]
_SHOWN_AGAIN = _SHOWING["unhide"]


class SeenItem(NamedTuple):
    """`bits`: 1 viewed, 2 clicked, 4 bought; `time`: the newest of these. `showing`: 8 disliked, 16 hidden,
    32 shown again, 0 none of them; `since`: when, and in which `quarter` of that second."""

    bits: int = 0
    time: int = 0
    showing: int = 0
    since: int = 0
    quarter: int = 0

    @property
    def hidden(self) -> bool:
        return self.showing not in (0, _SHOWN_AGAIN)


def bits_of(action: int, ms: int) -> int:
    """The bits of an action's code, and above them the quarter of its second; 0: it says nothing about what
    was seen."""
    name = ACTIONS[action].name
    bits = _ACTED.get(name, 0) | _SHOWING.get(name, 0)
    return bits + 64 * (ms // 250) if bits else 0


def by_item(found: Iterable[SeenEntry]) -> dict[int, SeenItem]:
    """The reading of entries in their order; of those of one quarter of a second the later one decides."""
    items: dict[int, SeenItem] = {}
    for item, time, bits in found:
        held = items.get(item, SeenItem())
        if acted := bits & 7:
            held = held._replace(bits=held.bits | acted, time=max(held.time, time))
        quarter = bits // 64
        if (showing := bits & 56) and (time, quarter) >= (held.since, held.quarter):
            held = held._replace(showing=showing, since=time, quarter=quarter)
        items[item] = held
    return items


def compacted(found: Iterable[SeenEntry], max_items: int) -> list[SeenEntry]:
    """At most two entries an item, of the newest items and of all bought, disliked or hidden ones."""
    items = by_item(found)
    ages = {item: (max(it.time, it.since), item) for item, it in items.items()}
    protected = {item for item, it in items.items() if it.hidden or it.bits & PURCHASE}
    others = sorted(items.keys() - protected, key=lambda item: ages[item], reverse=True)
    entries: list[SeenEntry] = []
    for item in protected.union(others[: max(0, max_items - len(protected))]):
        it = items[item]
        entries += [(item, it.time, it.bits)] if it.bits else []
        entries += [(item, it.since, it.showing + 64 * it.quarter)] if it.showing else []
    return sorted(entries, key=itemgetter(1, 0, 2))


def entries_of_merge(merge: Merge) -> list[SeenEntry]:
    """What a merge says, beside its recent actions; a record of before has items without times."""
    at = (merge.newest or merge.received_at) // 1000
    entries = [(it, at, _ACTED["view"]) if isinstance(it, int) else it for it in merge.seen]
    return entries + [(item, at, _SHOWING["hide"]) for item in merge.hidden]


class SeenString:
    """The string of one person as it grows. `limit`: of entries, at which it is compacted; 0: of a person
    without a string so far."""

    __slots__ = ("_max_items", "entries", "limit")

    def __init__(self, max_items: int, entries: Sequence[SeenEntry] = (), limit: int = 0) -> None:
        self._max_items, self.entries, self.limit = max_items, list(entries), limit

    def append(self, entry: SeenEntry) -> None:
        if not entry[2]:
            return
        self.limit = self.limit or seen.MIN_LIMIT
        self.entries.append(entry)
        if len(self.entries) == self.limit:
            self.entries = compacted(self.entries, self._max_items)
            self.limit = 2 * len(self.entries) + seen.MIN_LIMIT
