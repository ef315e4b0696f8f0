"""The last 50 actions, ordered by (time, item, category, action, identity).

An action takes its place by time, whenever it arrives. Slot i % 50 holds the entry that was number i in
that order when n actions had entered, so any split of the log gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features.plain import Event, recents
from schemas.events import Merge, MergedAction

RING_SIZE: Final = 50
ENTRY: Final = np.dtype(
    [
        ("item", "<u8"),
        ("time", "<u4"),
        ("ms", "<u2"),
        ("category", "<u4"),
        ("identity", "<u4"),
        ("action", "u1"),
        ("flags", "u1"),
    ]
)
"""Time in s, and ms of it; `identity`: the low half of `models.dedupe.action_identity`."""
IN_SESSION: Final = 1
"""Bit of an entry's `flags`: the action came in order, so later actions may be paired with it."""
COUNTED: Final = 2
"""Bit of an entry's `flags`: the action made a fact."""
BACK: Final = 4
"""Bit of an entry's `flags`: the action was taken back since; it expresses no interest."""
MERGED: Final = 8
"""Bit of an entry's `flags`: the action was another id's, which was linked to the person."""
FIELDS = (("n", "<u4"), ("ring", ENTRY, (RING_SIZE,)))

_RAW: Final = np.dtype((np.void, ENTRY.itemsize))
"""An entry as bytes: NumPy copies those by a factor of 10 and more quicker than it copies fields."""

Key = tuple[int, int, int, int, int, int]
"""(time in ms, item, category, action, identity, flags) of an entry, in the order of entries."""


def at(rows: NDArray[np.void], who: Any, number: Any) -> NDArray[np.void]:
    """The entries of the rows `who` in the slots of these numbers, broadcast."""
    found: NDArray[np.void] = rows["ring"].view(_RAW)[who, number % RING_SIZE].view(ENTRY)
    return found


def put(rows: NDArray[np.void], who: Any, number: Any, entries: NDArray[np.void]) -> None:
    """The opposite of `at`."""
    rows["ring"].view(_RAW)[who, number % RING_SIZE] = entries.view(_RAW)


def chosen(entries: NDArray[np.void], which: Any) -> NDArray[np.void]:
    """``entries[which]``."""
    found: NDArray[np.void] = entries.view(_RAW)[which].view(ENTRY)
    return found


def joined(chunks: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    found: NDArray[np.void] = np.concatenate([chunk.view(_RAW) for chunk in chunks]).view(ENTRY)
    return found


def key(entry: Sequence[int]) -> Key:
    """The key of an entry in plain values, in the order of `ENTRY`'s fields."""
    item, time, ms, category, identity, action, flags = entry
    return time * 1000 + ms, item, category, action, identity, flags


def entry(key: Key) -> tuple[int, ...]:
    """The opposite of `key`."""
    time, item, category, action, identity, flags = key
    return item, time // 1000, time % 1000, category, identity, action, flags


def entries(keys: Sequence[Key]) -> NDArray[np.void]:
    return np.array([entry(key) for key in keys], ENTRY)


def keys(row: np.void) -> list[Key]:
    """The entries, oldest first."""
    return [key(entry) for entry in recent(row)[::-1].tolist()]


def merge(row: np.void, merged: Sequence[Key], n: int) -> NDArray[np.void]:
    """Enters actions of another id, of which `n` ever entered its list; gives what left this list, or
    did not enter it (k,), oldest first."""
    held = sorted([*keys(row), *merged])
    row["n"] += n
    write(row, held[-RING_SIZE:], int(row["n"]))
    return entries(held[:-RING_SIZE])


def write(row: np.void, keys: Sequence[Key], n: int) -> None:
    """Writes `keys` (oldest first, at most 50) into the ring as the newest of n."""
    row["ring"][(n - len(keys) + np.arange(len(keys))) % RING_SIZE] = entries(keys)


def recent(row: np.void, k: int = RING_SIZE) -> NDArray[np.void]:
    """The newest `k` actions, newest first: dtype `ENTRY`, at most ``min(k, n, 50)`` rows."""
    n = int(row["n"])
    picked: NDArray[np.void] = row["ring"][(n - 1 - np.arange(min(k, n, RING_SIZE))) % RING_SIZE]
    return picked


def value(row: np.void) -> Any:
    return int(row["n"]), [tuple(entry) for entry in recent(row).tolist()]


def keys_of(value: Any) -> list[Key]:
    """The entries in a `value` of the ring, oldest first."""
    return [key(entry) for entry in reversed(value[1])]


def reference(events: Sequence[Event], merges: Sequence[Merge] = (), before: Any = None) -> Any:
    acts, held = recents(events), (0, []) if before is None else before
    all_keys = keys_of(held)
    all_keys += [(e.time, e.item, e.category, e.action, e.identity, e.flags) for e in acts]
    all_keys += [merged_key(a) for merge in merges for a in merge.recent]
    n = held[0] + len(acts) + sum(merge.entered for merge in merges)
    return n, [entry(key) for key in reversed(sorted(all_keys)[-RING_SIZE:])]


def merged_key(action: MergedAction) -> Key:
    """The key of another id's action; it belongs to no session of this person."""
    flags = action.flags & ~IN_SESSION | MERGED
    return action.at, action.item, action.category, action.action, action.identity, flags
