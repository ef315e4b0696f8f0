"""The strings of what people have seen, in one partition: appended to, and compacted at points of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.people.batch import Effects
from flows.people.rows import Fetch
from models import seen
from schemas.keys import Keyspace


class SeenStrings:
    """`max_items`: how many items a compaction keeps (`models.seen.compacted`)."""

    def __init__(self, partition: int, fetch: Fetch, keyspace: Keyspace, max_items: int) -> None:
        self._fetch, self._prefix = fetch, keyspace.seen(partition, "")
        self._max_items = max_items

    def compacted(self, person: str, effects: Effects) -> seen.Entries:
        """The person's string after what the batch wrote so far, at most two entries an item."""
        string = seen.read(effects.appended(self._key(person), self._fetch))
        return seen.compacted(string, self._max_items)

    def append(self, person: str, row: Any, added: seen.Entries, effects: Effects) -> None:
        """Appends to the person's string, and counts it in their row (in place). It is read only where it
        is compacted."""
        if len(added):
            self._append(person, row, added, effects, self._fetch)

    def _append(
        self, person: str, row: Any, added: seen.Entries, effects: Effects, fetch: Fetch
    ) -> None:
        key, limit = self._key(person), int(row["seen_limit"]) or seen.MIN_LIMIT
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

    def append_all(
        self,
        people: Sequence[str],
        rows: NDArray[np.void],
        who: NDArray[np.int64],
        added: seen.Entries,
        effects: Effects,
    ) -> None:
        """The same for many: `added` (k,) by `who`, which ascends and numbers `rows`; `people`: their names,
        each once, in the same order."""
        if not len(who):
            return
        cuts = np.flatnonzero(np.diff(who)) + 1
        starts, stops = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(who)]])
        numbers = who[starts]
        total = rows["seen_n"][numbers] + (stops - starts)
        limits = np.maximum(rows["seen_limit"][numbers], seen.MIN_LIMIT)
        fits, data, size = total < limits, added.tobytes(), seen.ENTRY.itemsize
        rows["seen_n"][numbers[fits]] = total[fits]
        rows["seen_limit"][numbers[fits]] = limits[fits]
        long: list[tuple[str, Any, seen.Entries]] = []
        for person, number, start, stop, short in zip(
            people, numbers.tolist(), starts.tolist(), stops.tolist(), fits.tolist(), strict=True
        ):
            if short:
                effects.write.append(self._key(person), data[size * start : size * stop])
            else:
                long.append((person, rows[number], added[start:stop]))
        keys = [self._key(person) for person, _, _ in long]
        stored = dict(zip(keys, self._fetch(keys) if keys else [], strict=True))
        for person, row, new in long:
            self._append(person, row, new, effects, lambda names: [stored[it] for it in names])

    def _key(self, person: str) -> bytes:
        return self._prefix + person.encode()
