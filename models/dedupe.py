"""Exact de-duplication over a window of record time (law 12).

An action is named by its person, event id, item, action and sign; any other record by its person and
event id. Ids are 64 bits: the hash of the person XOR the hash of the other fields, joined by NUL, so that one
order sent under two ids is found by the second alone. They are kept in buckets of record time. A hit counts
only if its bucket lies within the window of the running maximum *at that record*, so the result is a function
of the log alone, however it is split into batches. Exact up to a 64-bit collision: n^2 / 2^65 for n ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xxhash

from models.arrays import I64, U64, Mask
from models.kernels.loading import Kernel, kernel
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
        self.bits = 10
        self.slots = np.zeros(1 << self.bits, np.uint64)
        self.used = 0

    def __len__(self) -> int:
        return self.used

    def contains(self, ids: U64) -> Mask:
        found = np.zeros(len(ids), np.bool_)
        open_, at = np.arange(len(ids)), self._home(ids)
        while len(open_):
            held = self.slots[at]
            hit = held == ids[open_]
            found[open_[hit]] = True
            on = (held != 0) & ~hit
            open_, at = open_[on], self._next(at[on])
        return found

    def add(self, ids: U64) -> None:
        """`ids` are distinct and not in the set."""
        self.make_room(len(ids))
        self.used += len(ids)
        at = self._home(ids)
        while len(ids):
            free = self.slots[at] == 0
            self.slots[at[free]] = ids[free]  # of two ids for one slot the last gets it
            lost = self.slots[at] != ids
            ids, at = ids[lost], self._next(at[lost])

    def _home(self, ids: U64) -> U64:
        return ids >> np.uint64(64 - self.bits)

    def _next(self, at: U64) -> U64:
        return (at + np.uint64(1)) & np.uint64(len(self.slots) - 1)

    def make_room(self, n: int) -> None:
        """Has `n` more ids fit."""
        if (need := self.used + n) * 2 <= len(self.slots):
            return
        held = self.slots[self.slots != 0]
        while need * 2 > 1 << self.bits:
            self.bits += 1
        self.slots, self.used = np.zeros(1 << self.bits, np.uint64), 0
        self.add(held)


class _ReadArrays:
    """The columns of a read as the kernel takes them, and what it finds: `fresh` (n,), ids and their
    buckets."""

    def __init__(self, ids: U64, times: I64, compiled: Kernel) -> None:
        pointer, n = compiled.ffi.from_buffer, len(ids)
        if len(times) != n:
            raise ValueError("an id and a time of each record")
        self.fresh: Mask = np.empty(n, np.bool_)
        self.new: U64 = np.empty(n, np.uint64)
        self.bucket_of = np.empty(n, np.int64)
        self.pointers = (
            pointer("uint64_t *", ids),
            pointer("int64_t *", times),
            pointer("uint8_t *", self.fresh),
            pointer("uint64_t *", self.new),
            pointer("int64_t *", self.bucket_of),
        )


class Places:
    """The tables of the live buckets, as the kernel takes them: bucket b lies at place b modulo their
    number."""

    PLACES: Final = WINDOW_BUCKETS + 1
    _FIRST, _SIZE = 3, 3

    def __init__(self, compiled: Kernel) -> None:
        self._lib, self._ffi = compiled.lib, compiled.ffi
        self._state = compiled.ffi.new("int64_t[]", self._FIRST + self._SIZE * self.PLACES)
        """The newest time, how many ids are to be stored, how often their bucket changes; then of each place
        its bucket, bits, ids."""
        self._tables = compiled.ffi.new("uint64_t *[]", self.PLACES)
        self._held: list[Any] = [None] * self.PLACES
        """What the tables point to, so that it stays."""

    def put(self, bucket: int, ids: HashSet) -> None:
        place = bucket % self.PLACES
        at = self._FIRST + self._SIZE * place
        self._held[place] = self._tables[place] = self._ffi.from_buffer("uint64_t[]", ids.slots)
        self._state[at], self._state[at + 1], self._state[at + 2] = bucket, ids.bits, len(ids)

    def fresh(
        self,
        read: _ReadArrays,
        start: int,
        stop: int,
        width: int,
        newest: int,
        buckets: dict[int, HashSet],
    ) -> tuple[dict[int, U64], int]:
        """The ids to store by bucket, and the newest time, of the records `start` to `stop` - 1. `width` of a
        bucket, `newest` before. It adds the ids to the `buckets`."""
        state, n, at = self._state, stop - start, 0
        state[0], state[1], state[2] = newest, 0, 0
        ids, times, fresh, new, bucket_of = [it + start for it in read.pointers]
        arguments = width, state, self._tables, fresh, new, bucket_of
        while (at := self._lib.dedupe_fresh(ids, times, n, at, *arguments)) < n:
            self._settle(buckets)
            bucket = times[at] // width
            held = buckets.setdefault(bucket, HashSet())
            held.make_room(n - at)
            self.put(bucket, held)
        stored: dict[int, U64] = {}
        if k := state[1]:
            found = read.new[start : start + k]
            if state[2]:
                self._settle(buckets)
                whose = read.bucket_of[start : start + k]
                stored = {b: found[whose == b] for b in np.unique(whose).tolist()}
            else:
                bucket = bucket_of[0]
                stored[bucket] = found
                buckets[bucket].used = state[self._FIRST + self._SIZE * (bucket % self.PLACES) + 2]
        return stored, state[0]

    def _settle(self, buckets: dict[int, HashSet]) -> None:
        """Says to the sets how many ids they hold."""
        for at in range(self._FIRST, self._FIRST + self._SIZE * self.PLACES, self._SIZE):
            if self._state[at + 1] and (held := buckets.get(self._state[at])) is not None:
                held.used = self._state[at + 2]


class Deduper:
    """`window` in ms. It takes records in log order; `load` gives it the stored ids first."""

    def __init__(self, window: int, newest: int = 0) -> None:
        self.width = max(1, window // WINDOW_BUCKETS)
        self.newest = newest
        """Highest record time so far, ms."""
        self._buckets: dict[int, HashSet] = {}
        self._top: int | None = None
        """Of the newest bucket, when those that left the window were last dropped."""
        self._places = Places(kernel) if kernel is not None else None

    def live(self) -> range:
        """The buckets within the window of `newest`."""
        top = self.newest // self.width
        return range(top - WINDOW_BUCKETS, top + 1)

    def load(self, bucket: int, ids: U64) -> None:
        self._buckets.setdefault(bucket, HashSet()).add(np.unique(ids))
        self._top = None
        if self._places is not None and bucket in self.live():
            self._places.put(bucket, self._buckets[bucket])

    def fresh(self, ids: U64, times: I64) -> tuple[Mask, dict[int, U64], list[int]]:
        """(n,) which records are new; the ids to store by bucket; the buckets that left the window.

        `ids` 0 marks a record that has no id and passes. `times`: record time, ms.
        """
        fresh, [(stored, gone)] = fresh_of_all([self], [len(ids)], ids, times)
        return fresh, stored, gone

    def _fresh(self, read: _ReadArrays, start: int, stop: int) -> tuple[dict[int, U64], list[int]]:
        """As `fresh`, of these records of a read. There must be a kernel."""
        assert self._places is not None
        stored, self.newest = self._places.fresh(
            read, start, stop, self.width, self.newest, self._buckets
        )
        return stored, self._gone(stored)

    def fresh_by_numpy(self, ids: U64, times: I64) -> tuple[Mask, dict[int, U64], list[int]]:
        """The definition of `fresh`."""
        fresh = np.ones(len(ids), np.bool_)
        stored: dict[int, U64] = {}
        if len(ids):
            bucket = times // self.width
            top = np.maximum.accumulate(np.maximum(times, self.newest)) // self.width
            change = np.flatnonzero((np.diff(bucket) != 0) | (np.diff(top) != 0)) + 1
            for run in np.split(np.arange(len(ids)), change):
                self._take_run(ids, run, int(bucket[run[0]]), int(top[run[0]]), fresh, stored)
            self.newest = max(self.newest, int(times.max()))
        return fresh, stored, self._gone(stored)

    def _gone(self, stored: dict[int, U64]) -> list[int]:
        """Drops the buckets that left the window; ascending."""
        top = self.newest // self.width
        if top == self._top:
            return []
        live, self._top = self.live(), top
        gone = sorted([b for b in self._buckets if b not in live])
        for b in gone:
            del self._buckets[b]
            stored.pop(b, None)
        return gone

    def _take_run(
        self,
        ids: U64,
        run: I64,
        bucket: int,
        top: int,
        fresh: Mask,
        stored: dict[int, U64],
    ) -> None:
        run = run[ids[run] != 0]
        mine = ids[run]
        again = np.zeros(len(mine), np.bool_)
        if (
            bucket >= top - WINDOW_BUCKETS
        ):  # what is older is not kept, so a batch must not drop it either
            again[:] = True
            again[np.unique(mine, return_index=True)[1]] = False
        for b, held in self._buckets.items():
            if top - WINDOW_BUCKETS <= b <= top and len(held):
                again |= held.contains(mine)
        fresh[run[again]] = False
        new = mine[~again]
        if bucket >= top - WINDOW_BUCKETS and len(new):
            self._buckets.setdefault(bucket, HashSet()).add(new)
            stored[bucket] = np.concatenate([stored.get(bucket, new[:0]), new])


def fresh_of_all(
    dedupers: Sequence[Deduper], stops: Sequence[int], ids: U64, times: I64
) -> tuple[Mask, list[tuple[dict[int, U64], list[int]]]]:
    """`Deduper.fresh` of several partitions, whose records lie side by side: (n,) which are new, and of each
    partition the ids to store and the buckets that left the window. `stops`: behind the last of each."""
    found, start = list[tuple[dict[int, U64], list[int]]](), 0
    if kernel is None or any(it._places is None for it in dedupers):
        fresh: Mask = np.empty(len(ids), np.bool_)
        for deduper, stop in zip(dedupers, stops, strict=True):
            fresh[start:stop], stored, gone = deduper.fresh_by_numpy(
                ids[start:stop], times[start:stop]
            )
            found.append((stored, gone))
            start = stop
        return fresh, found
    read = _ReadArrays(ids, times, kernel)
    for deduper, stop in zip(dedupers, stops, strict=True):
        found.append(deduper._fresh(read, start, stop))
        start = stop
    return read.fresh, found
