"""De-duplication as law 12 defines it, by a dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import xxhash

from schemas.events import Action, Link, Linking, Preferences, Served, Unlink

WINDOW_BUCKETS: Final = 4
"""Buckets in a window; the one before them counts, too, so that no window is shorter than `window`."""
_SWEEP_IDS: Final = 1 << 16
Name = tuple[str, ...]
Named = Action | Preferences | Link | Unlink | Linking | Served
"""The records that have a name."""


def name_of(e: Named) -> Name:
    """What distinguishes a record from every other: of an action its person, event id, item, action and sign;
    of any other its person and event id."""
    if not isinstance(e, Action):
        return e.person, e.event_id
    sign = "-" if e.action == "purchase" and e.negative else "+"
    return e.person, e.event_id, e.item_id, e.action, sign


class Window:
    """Decides which records are new. An id is old if it was taken in a bucket of record time within the
    window of the highest record time so far. `window` in ms; `newest`, and `held`, the hashes of ids by
    bucket, are those of a snapshot."""

    def __init__(
        self, window: int, newest: int = 0, held: Mapping[int, Iterable[int]] | None = None
    ) -> None:
        self._width = max(1, window // WINDOW_BUCKETS)
        self.newest = newest
        """Highest record time so far, ms."""
        self._before = {number: at for at, numbers in (held or {}).items() for number in numbers}
        self._bucket: dict[Name, int] = {}
        self._swept = 0

    @property
    def oldest(self) -> int:
        """The oldest bucket in the window."""
        return self.newest // self._width - WINDOW_BUCKETS

    def passed(self, timestamp: int) -> None:
        """Counts a record of this time (ms) without an id."""
        self.newest = max(self.newest, timestamp)

    def fresh(self, e: Named, timestamp: int) -> bool:
        """Whether this record is new; a new one is remembered. `timestamp`: record time, ms."""
        if timestamp > self.newest:
            self.newest = timestamp
        oldest = self.newest // self._width - WINDOW_BUCKETS
        identifier, bucket = name_of(e), timestamp // self._width
        if self._bucket.get(identifier, oldest - 1) >= oldest:
            return False
        if self._before and self._before.get(_number(identifier), oldest - 1) >= oldest:
            return False
        if bucket >= oldest:  # else the record is too old to be remembered
            self._bucket[identifier] = bucket
        if len(self._bucket) > 2 * self._swept + _SWEEP_IDS:
            self._bucket = {held: at for held, at in self._bucket.items() if at >= oldest}
            self._swept = len(self._bucket)
        return True

    def held(self) -> dict[int, set[int]]:
        """The remembered ids, by bucket: hashes of their names."""
        found: dict[int, set[int]] = {}
        for identifier, bucket in self._bucket.items():
            if bucket >= self.oldest:
                found.setdefault(bucket, set()).add(_number(identifier))
        for number, bucket in self._before.items():
            if bucket >= self.oldest:
                found.setdefault(bucket, set()).add(number)
        return found


def _number(name: Name) -> int:
    person, *rest = (xxhash.xxh3_64_intdigest(it.encode()) for it in (name[0], "\0".join(name[1:])))
    return person ^ rest[0] or 1
