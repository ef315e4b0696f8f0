"""The strings of what people have seen: appended to, and compacted at points of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.people.batch import Effects
from flows.people.rows import Fetch
from models import seen
from models.arrays import I64
from schemas.keys import Keyspace


class SeenStrings:
    """Those of one partition. `max_items`: how many items a compaction keeps (`models.seen.compacted`)."""

    def __init__(self, partition: int, fetch: Fetch, keyspace: Keyspace, max_items: int) -> None:
        self._fetch, self._prefix = fetch, keyspace.seen(partition, "")
        self._max_items = max_items

    def compacted(self, person: str, effects: Effects) -> seen.Entries:
        """The person's string after what the batch wrote so far, at most two entries an item."""
        string = seen.read(effects.appended(self.key(person), self._fetch))
        return seen.compacted(string, self._max_items)

    def append(self, person: str, row: Any, added: seen.Entries, effects: Effects) -> None:
        """Appends to the person's string, and counts it in their row (in place). It is read only where it
        is compacted."""
        if len(added):
            self.extend(person, row, added, effects, self._fetch)

    def extend(
        self, person: str, row: Any, added: seen.Entries, effects: Effects, fetch: Fetch
    ) -> None:
        """`append`; `fetch` reads the string."""
        key, limit = self.key(person), int(row["seen_limit"]) or seen.MIN_LIMIT
        if int(row["seen_n"]) + len(added) < limit:
            effects.write.append(key, added.tobytes())
            row["seen_n"] += len(added)
        else:
            string, limit = seen.extended(
                seen.read(effects.appended(key, fetch)), limit, added, self._max_items
            )
            effects.write.appends.pop(key, None)
            effects.write.values[key] = string.tobytes()
            row["seen_n"] = len(string)
        row["seen_limit"] = limit

    def key(self, person: str) -> bytes:
        return self._prefix + person.encode()


class Appended(NamedTuple):
    """What one person's string gets: `added`, beside the row number `slot`."""

    strings: SeenStrings
    person: str
    slot: int
    added: seen.Entries
    effects: Effects


def append_all(
    rows: NDArray[np.void],
    slots: I64,
    added: seen.Entries,
    whose: Callable[[int], tuple[SeenStrings, str, Effects]],
) -> list[Appended]:
    """Appends to the strings of many: `added` (k,) by `slots` (k,), which ascend. Counts it in `rows` (in
    place). Gives the appends that compact a string, which `append_long` does."""
    first = np.ones(len(slots), np.bool_)
    np.not_equal(slots[1:], slots[:-1], out=first[1:])
    starts = first.nonzero()[0]
    numbers, stops = slots[starts], np.empty_like(starts)
    stops[:-1], stops[-1] = starts[1:], len(slots)
    total = rows["seen_n"][numbers] + (stops - starts)
    limits = np.maximum(rows["seen_limit"][numbers], seen.MIN_LIMIT)
    fits, data, size = total < limits, added.tobytes(), seen.ENTRY.itemsize
    rows["seen_n"][numbers[fits]] = total[fits]
    rows["seen_limit"][numbers[fits]] = limits[fits]
    long: list[Appended] = []
    for slot, start, stop, short in zip(
        numbers.tolist(), starts.tolist(), stops.tolist(), fits.tolist(), strict=True
    ):
        strings, person, effects = whose(slot)
        if short:
            effects.write.append(strings.key(person), data[size * start : size * stop])
        else:
            long.append(Appended(strings, person, slot, added[start:stop], effects))
    return long


def append_long(
    rows: NDArray[np.void],
    long: Sequence[Appended],
    fetch: Fetch,
    guarded: Callable[[int], AbstractContextManager[None]],
) -> None:
    """Compacts the strings of `long` with what they get; all are read in one call. `guarded` takes the errors
    of the partition of a slot."""
    keys = [it.strings.key(it.person) for it in long]
    stored = dict(zip(keys, fetch(keys), strict=True))
    for it in long:
        with guarded(it.slot):
            it.strings.extend(
                it.person,
                rows[it.slot],
                it.added,
                it.effects,
                lambda names: [stored[name] for name in names],
            )
