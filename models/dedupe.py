"""Exact de-duplication over a window of record time (law 12).

An action is named by its person, event id, item, action and sign; any other record by its person and
event id. Ids are 64 bits: the hash of the person XOR the hash of the other fields, joined by NUL, so that one
order sent under two ids is found by the second alone. They are kept in buckets of record time. A hit counts
only if its bucket lies within the window of the running maximum *at that record*, so the result is a function
of the log alone, however it is split into batches. Exact up to a 64-bit collision: n^2 / 2^65 for n ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.arrays import U64, Mask
from schemas.events import Action, Event, Listed, Merge

IDENTITY_BITS: Final = 0xFFFF_FFFF
"""The low half of an identity, which lists keep."""
WINDOW_BUCKETS: Final = 4
"""Buckets in a window; one more is kept, so that the window is never shorter than `window`."""
_xxh = xxhash.xxh3_64_intdigest


def action_identity(e: Action) -> int:
    """The hash of an action's name without its person, u64: equal for one order sent under two ids. No field
    holds NUL, so no two names are equal.

    >>> line = {"event_id": "o1", "item_id": "i", "action": "purchase", "occurred_at": 0, "received_at": 0}
    >>> one, other = Action(person="a" * 32, **line), Action(person="b" * 32, quantity=2, **line)
    >>> action_identity(one) == action_identity(other)
    True
    """
    sign = "-" if e.negative and e.action == "purchase" else "+"
    return _xxh(f"{e.event_id}\0{e.item_id}\0{e.action}\0{sign}".encode())


def identities(events: Sequence[Event]) -> tuple[U64, U64]:
    """(n,) of each event the hash of its name without its person, and the whole id for de-duplication, 0 for
    one that has none and passes."""
    # of most events `action_identity` inline: the calls cost as much as the hashes
    names = [
        _xxh(f"{e.event_id}\0{e.item_id}\0{e.action}\0+".encode())
        if type(e) is Action and not e.negative
        else _identity(e)
        for e in events
    ]
    named = np.array(names, np.uint64)
    whole = np.array([_xxh(e.person.encode()) for e in events], np.uint64) ^ named
    whole[whole == 0] = 1
    whole[named == 0] = 0
    return named, whole


def _identity(e: Event) -> int:
    if isinstance(e, Action):
        return action_identity(e)
    return 0 if isinstance(e, Merge | Listed) else _xxh(e.event_id.encode()) or 1


def duplicate_reason(e: Event) -> str:
    """The reason under which a dropped record is tallied: `duplicate` for an action, else with its kind.

    >>> from schemas.events import Served
    >>> duplicate_reason(Served(person="a" * 32, slate_id="s", placement="p", received_at=0, items=()))
    'duplicate_served'
    """
    return "duplicate" if isinstance(e, Action) else f"duplicate_{e.__struct_config__.tag}"


class HashSet:
    """A set of non-zero u64 by open addressing, at most half full: 16 to 32 bytes an id."""

    def __init__(self) -> None:
        self._bits = 10
        self._slots = np.zeros(1 << self._bits, np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def contains(self, ids: U64) -> Mask:
        found = np.zeros(len(ids), np.bool_)
        open_, at = np.arange(len(ids)), self._home(ids)
        while len(open_):
            held = self._slots[at]
            hit = held == ids[open_]
            found[open_[hit]] = True
            on = (held != 0) & ~hit
            open_, at = open_[on], self._next(at[on])
        return found

    def add(self, ids: U64) -> None:
        """`ids` are distinct and not in the set."""
        if (self._used + len(ids)) * 2 > len(self._slots):
            self._grow(self._used + len(ids))
        self._used += len(ids)
        at = self._home(ids)
        while len(ids):
            free = self._slots[at] == 0
            self._slots[at[free]] = ids[free]  # of two ids for one slot the last gets it
            lost = self._slots[at] != ids
            ids, at = ids[lost], self._next(at[lost])

    def _home(self, ids: U64) -> U64:
        return ids >> np.uint64(64 - self._bits)

    def _next(self, at: U64) -> U64:
        return (at + np.uint64(1)) & np.uint64(len(self._slots) - 1)

    def _grow(self, need: int) -> None:
        held = self._slots[self._slots != 0]
        while need * 2 > 1 << self._bits:
            self._bits += 1
        self._slots, self._used = np.zeros(1 << self._bits, np.uint64), 0
        self.add(held)


class Deduper:
    """`window` in ms. It takes records in log order; `load` gives it the stored ids first."""

    def __init__(self, window: int, newest: int = 0) -> None:
        self.width = max(1, window // WINDOW_BUCKETS)
        self.newest = newest
        """Highest record time so far, ms."""
        self._buckets: dict[int, HashSet] = {}

    def live(self) -> range:
        """The buckets within the window of `newest`."""
        top = self.newest // self.width
        return range(top - WINDOW_BUCKETS, top + 1)

    def load(self, bucket: int, ids: U64) -> None:
        self._buckets.setdefault(bucket, HashSet()).add(np.unique(ids))

    def fresh(self, ids: U64, times: NDArray[np.int64]) -> tuple[Mask, dict[int, U64], list[int]]:
        """(n,) which records are new; the ids to store by bucket; the buckets that left the window.

        `ids` 0 marks a record that has no id and passes. `times`: record time, ms.
        """
        fresh = np.ones(len(ids), np.bool_)
        stored: dict[int, U64] = {}
        held = set(self._buckets)
        if len(ids):
            bucket = times // self.width
            top = np.maximum.accumulate(np.maximum(times, self.newest)) // self.width
            change = np.flatnonzero((np.diff(bucket) != 0) | (np.diff(top) != 0)) + 1
            for run in np.split(np.arange(len(ids)), change):
                self._take_run(ids, run, int(bucket[run[0]]), int(top[run[0]]), fresh, stored)
            self.newest = max(self.newest, int(times.max()))
        gone = [b for b in held | set(self._buckets) if b not in self.live()]
        for b in gone:
            self._buckets.pop(b, None)
            stored.pop(b, None)
        return fresh, stored, sorted(gone)

    def _take_run(
        self,
        ids: U64,
        run: NDArray[np.int64],
        bucket: int,
        top: int,
        fresh: Mask,
        stored: dict[int, U64],
    ) -> None:
        run = run[ids[run] != 0]
        mine = ids[run]
        again = np.ones(len(mine), np.bool_)
        again[np.unique(mine, return_index=True)[1]] = False
        for b, held in self._buckets.items():
            if top - WINDOW_BUCKETS <= b <= top and len(held):
                again |= held.contains(mine)
        fresh[run[again]] = False
        new = mine[~again]
        if bucket >= top - WINDOW_BUCKETS and len(new):
            self._buckets.setdefault(bucket, HashSet()).add(new)
            stored[bucket] = np.concatenate([stored.get(bucket, new[:0]), new])
