"""Where in a log's file an offset or a time lies: one entry per 4 kB of log, 24 bytes each."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from infra.broker.batch import Header

INTERVAL: Final = 4096  # bytes of log between two entries, as in Kafka
STRIDE: Final = 4096  # entries whose newest time is looked for at once


class Index:
    """Sparse and in memory; rebuilt from the headers on start.

    An entry covers the batches from its position up to the next entry's.
    """

    def __init__(self) -> None:
        self._offsets, self._positions, self._times = array("q"), array("q"), array("q")

    def note(self, header: Header, position: int) -> None:
        """A batch was written at `position`."""
        if not self._positions or position - self._positions[-1] >= INTERVAL:
            self._offsets.append(header.base)
            self._positions.append(position)
            self._times.append(header.max_time)
        elif header.max_time > self._times[-1]:
            self._times[-1] = header.max_time

    def at_offset(self, offset: int) -> int:
        """A batch's position at or before that of the batch that holds `offset`."""
        entry = bisect_right(self._offsets, offset) - 1
        return self._positions[entry] if entry >= 0 else 0

    def at_position(self, position: int) -> int:
        """The last batch position known that is at or before `position`."""
        entry = bisect_right(self._positions, position) - 1
        return self._positions[entry] if entry >= 0 else 0

    def since(self, time: int, position: int) -> int | None:
        """The first entry's position, from `position` on, that holds a `time` or a later one."""
        times, entry = self._times, max(bisect_right(self._positions, position) - 1, 0)
        while entry < len(times) and max(times[entry : entry + STRIDE]) < time:
            entry += STRIDE
        for found in range(entry, min(entry + STRIDE, len(times))):
            if times[found] >= time:
                return self._positions[found]
        return None
