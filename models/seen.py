"""What a person has seen: by item the kinds of their actions, the newest time, and whether it is hidden.

The list of recent actions says it of the last ones. A string of entries, appended to, holds what left
the list and what never enters it (late actions, `hide`, `unhide`, bought groups); a reader takes both.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64
from models.features import ring
from schemas.actions import ACTIONS, RECENT, by_byte
from schemas.events import Merge

VIEW: Final = 1
CLICK: Final = 2
"""A click, like, share, cart, or a rating that is not below the middle."""
PURCHASE: Final = 4
DISLIKE: Final = 8
HIDE: Final = 16
SHOW: Final = 32
"""Ends an older `HIDE` or `DISLIKE`: the newest of the three decides."""
ACTED: Final = VIEW | CLICK | PURCHASE
SHOWING: Final = DISLIKE | HIDE | SHOW
MAX_ITEMS: Final = 20_000
"""Items that a compaction keeps, beside those bought, disliked or hidden."""
MIN_LIMIT: int = 256
"""Entries at which a string is compacted for the first time."""
QUARTER_MS: Final = 250
QUARTER_SHIFT: Final = 6
"""The two high bits of an entry's `bits` are the quarter of its second: a like and a hide of one second keep
their order."""
ENTRY: Final = np.dtype([("item", "<u8"), ("time", "<u4"), ("bits", "u1")])
"""13 B: hash of an item or a group, Unix seconds, bits."""
_BITS_OF: Final = {
    "view": VIEW, "click": CLICK, "cart": CLICK, "share": CLICK, "rate": CLICK, "like": CLICK | SHOW,
    "purchase": PURCHASE, "dislike": DISLIKE, "rated_down": DISLIKE, "hide": HIDE, "unhide": SHOW,
}  # fmt: skip
BITS: Final = by_byte(np.array([_BITS_OF.get(action.name, 0) for action in ACTIONS], np.uint8))
"""By code of the action; 0: it says nothing about what was seen."""
APPENDED: Final = (BITS[: len(RECENT)] != 0) & ~RECENT
"""By code of the action: it never enters the list, so the string takes it at once (`hide`, `unhide`)."""

Entries = NDArray[np.void]
"""dtype `ENTRY`."""
NONE: Final[Entries] = np.empty(0, ENTRY)


class SeenItems(NamedTuple):
    """By item, ascending: `bits` of `ACTED` and the time of the newest such action (0: there is none);
    the one of `SHOWING` that is in force (0: none), and since when, with the quarter of that second."""

    item: U64
    bits: NDArray[np.uint8]
    time: NDArray[np.uint32]
    showing: NDArray[np.uint8]
    since: NDArray[np.uint32]
    quarter: NDArray[np.uint8]

    @property
    def hidden(self) -> NDArray[np.bool_]:
        hidden: NDArray[np.bool_] = (self.showing & (HIDE | DISLIKE)) != 0
        return hidden


def read(stored: bytes | None) -> Entries:
    """The entries of a stored string. Errors: ValueError where it is none."""
    return np.frombuffer(stored, ENTRY) if stored else NONE


def entries(item: Any, seconds: Any, bits: Any) -> Entries:
    """(n,) entries of these columns, without those that have no bit."""
    made: Entries = np.empty(len(item), ENTRY)
    made["item"], made["time"], made["bits"] = item, seconds, bits
    some: Entries = made[made["bits"] != 0]
    return some


def of_list(listed: NDArray[np.void]) -> Entries:
    """The entries of actions as `ring.ENTRY` has them, in the same order."""
    return entries(listed["item"], listed["time"], bits_of(listed["action"], listed["ms"]))


def bits_of(action: Any, ms: Any) -> Any:
    """(n,) u8 bits of actions by their codes, with the quarter of the second at `ms` in it."""
    bits = BITS[action]
    return bits | (bits > 0) * (ms // QUARTER_MS << QUARTER_SHIFT).astype(np.uint8)


def at(found: Entries) -> I64:
    """(n,) times of entries, in quarters of a second."""
    return found["time"].astype(np.int64) << 2 | found["bits"] >> QUARTER_SHIFT


def of_person(string: Entries, row: np.void) -> Entries:
    """All entries of the person of `row`: what the string has, then what the list has, ordered by
    time; in one quarter of a second the later of them stays the later."""
    listed = of_list(ring.recent(row)[::-1])
    both = np.concatenate([string, listed]) if len(string) else listed
    return both[np.argsort(at(both), kind="stable")]


def entries_of_merge(merge: Merge) -> Entries:
    """What a merge says, beside its `recent`. An item without a time was viewed by the newest action of the
    merge, or hidden by then."""
    at = (merge.newest or merge.received_at) // 1000
    made = [it if isinstance(it, tuple) else (it, at, VIEW) for it in merge.seen]
    return np.array([*made, *[(item, at, HIDE) for item in merge.hidden]], ENTRY)


def by_item(found: Entries) -> SeenItems:
    """What the entries say of each item. In one quarter of a second the later entry decides."""
    found = found[np.argsort(at(found), kind="stable")]
    item, place = np.unique(found["item"], return_inverse=True)
    bits, showing, quarter = np.zeros((3, len(item)), np.uint8)
    time, since = np.zeros((2, len(item)), np.uint32)
    np.bitwise_or.at(bits, place, found["bits"] & ACTED)
    acted, changes = (np.flatnonzero(found["bits"] & kinds) for kinds in (ACTED, SHOWING))
    # of equal places the last one assigned stays
    time[place[acted]] = found["time"][acted]
    since[place[changes]] = found["time"][changes]
    showing[place[changes]] = found["bits"][changes] & SHOWING
    quarter[place[changes]] = found["bits"][changes] >> QUARTER_SHIFT
    return SeenItems(item, bits, time, showing, since, quarter)


def compacted(found: Entries, max_items: int) -> Entries:
    """At most two entries an item, ordered by (time, item, bits): what was done, and what shows or hides
    it. The `max_items` newest items stay, and all that are bought, disliked or hidden."""
    items = by_item(found)
    newest = np.maximum(items.time, items.since)
    stays = items.hidden | (items.bits & PURCHASE != 0)
    rest = np.flatnonzero(~stays)
    room = max(0, max_items - (len(stays) - len(rest)))
    stays[rest[_newest(newest[rest], items.item[rest], room)]] = True
    made = np.concatenate(
        [
            entries(items.item[stays], items.time[stays], items.bits[stays]),
            entries(
                items.item[stays],
                items.since[stays],
                items.showing[stays] | items.quarter[stays] << QUARTER_SHIFT,
            ),
        ]
    )
    return made[np.lexsort((made["bits"], made["item"], made["time"]))]


def _newest(time: NDArray[np.uint32], item: U64, count: int) -> I64:
    """Indices of the `count` newest, of equally new ones those of the higher hashes."""
    return np.lexsort((item, time))[max(0, len(time) - count) :]


def extended(
    string: Entries, limit: int, added: Entries, max_items: int = MAX_ITEMS
) -> tuple[Entries, int]:
    """The string and its limit after `added`, entry by entry: one that reaches its limit is compacted, and
    its next limit is twice what it holds then and `MIN_LIMIT` more."""
    while len(string) + len(added) >= limit:
        room = limit - len(string)
        string = compacted(np.concatenate([string, added[:room]]), max_items)
        added, limit = added[room:], 2 * len(string) + MIN_LIMIT
    return np.concatenate([string, added]), limit
