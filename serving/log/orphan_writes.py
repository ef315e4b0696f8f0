"""The spooled writes of a worker that has ended: the records, their age, and their place on disk."""

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
    """An orphaned spool that this worker took over. `oldest`: when its first record was spooled, 0 where it
    has none."""

    directory: Directory
    records: int
    bytes: int
    oldest: Millis

    @classmethod
    def measure(cls, directory: Directory) -> OrphanSpool:
        """Counts the records of `directory`, which it reads whole. Errors: OSError."""
        records = size = oldest = 0
        for number, offset in unacknowledged(directory):
            data = directory.read(number)
            first = next(frames.decode(data, offset), None)
            oldest = oldest or (first[0].at if first else 0)
            end_offsets = [end for _, end in unseal(data, offset)]
            records += len(end_offsets)
            size += end_offsets[-1] - offset if end_offsets else 0
        return cls(directory, records, size, oldest)

    def without(self, sent: Sequence[Entry]) -> OrphanSpool:
        """The counts after `sent` has been sent."""
        size = sum(entry.size for entry in sent)
        return self._replace(
            records=max(0, self.records - len(sent)), bytes=max(0, self.bytes - size)
        )

    async def batches(self) -> AsyncIterator[list[Entry]]:
        """The batches in order. Asking for the next batch acknowledges the one before it.

        A frame that is not whole ends its segment: the worker died while it wrote the frame, and had not
        acknowledged it. Errors: OSError.
        """
        directory = self.directory
        for number, offset in unacknowledged(directory):
            data = await asyncio.to_thread(directory.read, number)
            for batch in frames.batches(frames.decode(data, offset)):
                yield batch.entries
                directory.mark = Place(number, offset := batch.end)
            if offset < len(data):
                log.warning(
                    "the spool of an ended worker ends within a record: %d bytes",
                    len(data) - offset,
                )
            directory.mark = Place(number + 1, 0)
            directory.drop(number)


def unacknowledged(directory: Directory) -> list[tuple[int, int]]:
    """Each segment with unacknowledged frames, and the offset at which they begin."""
    mark = directory.mark
    later = [number for number in directory.segments() if number >= mark.segment]
    return [(number, mark.offset if number == mark.segment else 0) for number in later]
