"""From an offset or a time to a position in a log's file: one entry per 4 kB of log, 24 bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from infra.broker.batch import Header

INDEX_INTERVAL_BYTES: Final = 4096  # of log between two entries, as in Kafka
ENTRIES_PER_SCAN: Final = 4096  # whose newest time one call of max() finds


class Index:
    """A sparse index in memory; rebuilt from the headers on start.

    An entry covers the batches from its position up to the next entry's. Times are ms since 1970.
    """

    def __init__(self) -> None:
        self._offsets, self._positions, self._times = array("q"), array("q"), array("q")

    def add(self, header: Header, position: int) -> None:
        """Indexes the batch that was written at `position`."""
        if not self._positions or position - self._positions[-1] >= INDEX_INTERVAL_BYTES:
            self._offsets.append(header.base_offset)
            self._positions.append(position)
            self._times.append(header.max_timestamp)
        elif header.max_timestamp > self._times[-1]:
            self._times[-1] = header.max_timestamp

    def at_offset(self, offset: int) -> int:
        """The position of an indexed batch, at or before the batch that holds `offset`."""
        entry = bisect_right(self._offsets, offset) - 1
        return self._positions[entry] if entry >= 0 else 0

    def at_position(self, position: int) -> int:
        """The last indexed batch position at or before `position`."""
        entry = bisect_right(self._positions, position) - 1
        return self._positions[entry] if entry >= 0 else 0

    def since(self, time: int, position: int) -> int | None:
        """The position of the first entry, from `position` on, that holds `time` or a later time."""
        times, entry = self._times, max(bisect_right(self._positions, position) - 1, 0)
        while entry < len(times) and max(times[entry : entry + ENTRIES_PER_SCAN]) < time:
            entry += ENTRIES_PER_SCAN
        for candidate in range(entry, min(entry + ENTRIES_PER_SCAN, len(times))):
            if times[candidate] >= time:
                return self._positions[candidate]
        return None
