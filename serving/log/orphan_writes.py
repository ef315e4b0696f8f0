"""What a worker that is gone left of writes: which records, since when, and where they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from schemas.alphabet import Millis
from serving.spool import frames
from serving.spool.frames import Entry
from serving.spool.segments import Directory, Place, unseal

log = logging.getLogger("freshet.serving")


class OrphanSpool(NamedTuple):
    """One orphaned spool, ours now. `oldest`: since when its first record waits, 0 where it has none."""

    directory: Directory
    records: int
    bytes: int
    oldest: Millis

    @classmethod
    def look(cls, directory: Directory) -> OrphanSpool:
        """Reads all of it. Errors: OSError."""
        records = size = oldest = 0
        for number, at in places(directory):
            data = directory.read(number)
            first = next(frames.decode(data, at), None)
            oldest = oldest or (first[0].at if first else 0)
            ends = [end for _, end in unseal(data, at)]
            records, size = records + len(ends), size + (ends[-1] - at if ends else 0)
        return cls(directory, records, size, oldest)

    def less(self, sent: Sequence[Entry]) -> OrphanSpool:
        """What is left of it after these."""
        size = sum(entry.size for entry in sent)
        return self._replace(
            records=max(0, self.records - len(sent)), bytes=max(0, self.bytes - size)
        )

    async def batches(self) -> AsyncIterator[list[Entry]]:
        """Batch after batch, in order; asking for the next one says that the broker has the last.

        A frame that is not whole ends its segment: it was being written as the worker died, and nothing
        of it was acknowledged. Errors: OSError.
        """
        directory = self.directory
        for number, at in places(directory):
            data = await asyncio.to_thread(directory.read, number)
            for batch in frames.batches(frames.decode(data, at)):
                yield batch.entries
                directory.mark = Place(number, at := batch.end)
            if at < len(data):
                log.warning("a spool that was left ended within a record: %d bytes", len(data) - at)
            directory.mark = Place(number + 1, 0)
            directory.drop(number)


def places(directory: Directory) -> list[tuple[int, int]]:
    """Each segment that is not all acknowledged, and the offset from which on it is not."""
    mark = directory.mark
    later = [number for number in directory.segments() if number >= mark.segment]
    return [(number, mark.offset if number == mark.segment else 0) for number in later]
