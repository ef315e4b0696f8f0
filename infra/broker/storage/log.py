"""One partition's log: a sequence of segments; the oldest are deleted and the last one grows.

An acknowledged batch is in the page cache, so it survives a kill of the process; with `fsync` it is
on the disk and survives a power cut.  A write that fails is undone.  The first offset is written to
the disk before older segments are deleted, so a kill in between loses no record, and the next start
finishes the deletion.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from infra.broker import batch
from infra.broker.batch import PREFIX, Header
from infra.broker.codes import LOG, CannotStart, Code, Refused
from infra.broker.configs import LogConfig
from infra.broker.storage.producers import Producers
from infra.broker.storage.segment import Segment, segment_path
from infra.broker.timestamps import check_timestamp, with_append_time
from infra.files import sync_directory, write_atomically


class Receipt(NamedTuple):
    """Offset of the batch's first record; the broker's timestamp in ms, or -1 where it set none."""

    base_offset: int
    append_time: int


class Log:
    """A partition's records from `start_offset`, the first readable one, up to `next_offset`.

    A position is a byte of the log as if it were one file. It never changes while the log is open,
    also when segments before it are deleted.
    """

    def __init__(
        self,
        folder: Path,
        partition: int,
        bases: Sequence[int] = (),
        fsync: bool = False,
        flushed_bytes: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Opens the segments that begin at offsets `bases`, or a first one.

        `flushed_bytes` gives the flushed bytes of a segment by its key.
        Errors: `OSError`; `CannotStart` where flushed bytes are damaged or a segment is missing.
        """
        self._folder, self._partition, self._fsync = folder, partition, fsync
        self._start_file = folder / f"{partition}.start"
        self._producers = Producers()
        self._waiters: set[asyncio.Future[None]] = set()
        self._segments: list[Segment] = []
        self.closed = False
        self.start_offset = int(self._start_file.read_text()) if self._start_file.exists() else 0
        try:
            self._open(self._sweep(bases), flushed_bytes)
        except BaseException:
            for segment in self._segments:
                segment.close()
            raise
        self.start_offset = min(self.start_offset, self.next_offset)

    @property
    def active(self) -> Segment:
        """The last segment, which is written to."""
        return self._segments[-1]

    @property
    def next_offset(self) -> int:
        """The offset of the next record to be appended."""
        return self._segments[-1].next_offset

    @property
    def end_position(self) -> int:
        """The position of the next batch to be appended."""
        last = self._segments[-1]
        return last.start_position + last.size

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.size for segment in self._segments)

    # -- opening

    def _sweep(self, bases: Sequence[int]) -> list[int]:
        """The bases of readable segments; deletes older ones, which remain where a kill came between."""
        first = max(bisect_right(bases, self.start_offset) - 1, 0)
        for base in bases[:first]:
            segment_path(self._folder, self._partition, base).unlink()
        if (bases[first] if bases else 0) > self.start_offset or (self.start_offset and not bases):
            raise CannotStart(
                f"{self._folder}: partition {self._partition} lacks the records from offset"
                f" {self.start_offset} on: restore its files from a copy"
            )
        return list(bases[first:]) or [0]

    def _open(self, bases: list[int], flushed_bytes: Callable[[str], int]) -> None:
        for base in bases:
            path = segment_path(self._folder, self._partition, base)
            if self._segments and base != self.next_offset:
                raise CannotStart(
                    f"{path} does not begin at offset {self.next_offset}, where the file before it ends:"
                    " restore both from a copy"
                )
            segment = Segment(path, base, self.end_position if self._segments else 0)
            self._segments.append(segment)
            trusted = flushed_bytes(segment.key) if base == bases[-1] else None
            for header in segment.recover(trusted):
                self._record(header)

    # -- writing

    def append(self, records: bytes, config: LogConfig, now: int) -> Receipt:
        """Appends one batch as a client sent it; a repeated one is answered with its offset.

        `now` is ms since 1970.  Errors: `Refused`; no record is appended then.
        """
        header = batch.validated(records, config.max_message_bytes)
        if header.size > config.segment_bytes:
            raise Refused(Code.RECORD_LIST_TOO_LARGE, "batch larger than segment.bytes")
        if not config.append_time:
            check_timestamp(header, config, now)
        if header.producer_id >= 0:
            duplicate = self._producers.duplicate(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.record_count,
            )
            if duplicate is not None:
                return Receipt(duplicate, -1)
        if config.append_time:
            records, header = with_append_time(records, header, now)
        header = header._replace(base_offset=self.next_offset, leader_epoch=0)
        try:
            if _is_full(self.active, header, config):
                self._roll()
            prefix = PREFIX.pack(header.base_offset, header.length, 0)
            self.active.write(prefix, memoryview(records)[PREFIX.size :], self._fsync)
        except OSError as error:
            reason = f"write failed: {os.strerror(error.errno or 0)}"
            raise Refused(Code.KAFKA_STORAGE_ERROR, reason) from error
        self.active.add(header, self.active.size)
        self._record(header)
        self.wake()
        return Receipt(header.base_offset, now if config.append_time else -1)

    def _record(self, header: Header) -> None:
        if header.producer_id >= 0:
            self._producers.record(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.record_count,
                header.base_offset,
            )

    def _roll(self) -> None:
        """Begins a new segment. Errors: `OSError`; the old segment remains the last then."""
        self.active.flush()
        path = segment_path(self._folder, self._partition, self.next_offset)
        segment = Segment(path, self.next_offset, self.end_position, truncate=True)
        try:
            sync_directory(self._folder)
        except OSError:
            segment.remove()
            raise
        self._segments.append(segment)

    # -- deleting

    def apply_retention(self, config: LogConfig, now: int) -> int:
        """Deletes the oldest segments that `config` no longer keeps. Gives their number.

        A segment is deleted as a whole, by its newest record's time and by the log's size, as in
        Kafka.  `now` is ms since 1970.  Errors: `OSError`.
        """
        count, size = 0, self.size
        for segment in self._segments:
            too_old = 0 <= config.retention_ms < segment.age(now)
            too_large = 0 <= config.retention_bytes <= size - segment.size
            if not segment.size or not (too_old or too_large):
                break
            count, size = count + 1, size - segment.size
        if count == len(self._segments):
            self._roll()
        if count:
            self._delete_before(self._segments[count].base_offset)
        return count

    def truncate_before(self, offset: int) -> None:
        """Makes `offset` the first readable offset. Errors: `Refused`, `OSError`."""
        if not 0 <= offset <= self.next_offset:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, "offset outside the log")
        if offset > self.start_offset:
            self._delete_before(offset)

    def _delete_before(self, offset: int) -> None:
        """Stores a higher start offset, and deletes the segments before it."""
        if offset > self.start_offset:
            write_atomically(self._start_file, str(offset).encode())
            self.start_offset = offset
        while len(self._segments) > 1 and self._segments[1].base_offset <= self.start_offset:
            segment = self._segments.pop(0)
            try:
                segment.remove()
            except OSError as error:  # the next start deletes it
                LOG.warning("cannot delete %s: %s", segment.path, os.strerror(error.errno or 0))

    # -- reading

    def locate(self, offset: int) -> int:
        """Position of the batch that holds `offset`; the end of the log for `next_offset`.

        Errors: `Refused` with OFFSET_OUT_OF_RANGE outside `start_offset`..`next_offset`.
        """
        if not self.start_offset <= offset <= self.next_offset:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, "offset outside the log")
        number = bisect_right(self._segments, offset, key=attrgetter("base_offset")) - 1
        segment = self._segments[number]
        return segment.start_position + segment.locate(offset)

    def read(self, position: int, limit: int, first_whole: bool) -> bytes:
        """Whole batches of one segment from `position` on, at most `limit` bytes of them.

        With `first_whole` the first batch is read even if it alone is larger.
        """
        number = bisect_right(self._segments, position, key=attrgetter("start_position")) - 1
        segment = self._segments[number]
        return segment.read(position - segment.start_position, limit, first_whole)

    def at_time(self, time: int) -> tuple[int, int]:
        """(offset, time) of the first record of `time` ms or later; (-1, -1) without one."""
        for segment in self._segments:
            if segment.newest >= time:
                record = segment.at_time(time, self.start_offset)
                if record != (-1, -1):
                    return record
        return -1, -1

    def newest(self) -> tuple[int, int]:
        """(offset, time) of the first record with the newest time; (-1, -1) without one."""
        if self.start_offset == self.next_offset:
            return -1, -1
        return self.at_time(
            max(segment.newest_from(self.start_offset) for segment in self._segments)
        )

    # -- waiting and closing

    def subscribe(self, waiter: asyncio.Future[None]) -> None:
        """`waiter` is done when the next batch is appended or the log is closed."""
        self._waiters.add(waiter)

    def unsubscribe(self, waiter: asyncio.Future[None]) -> None:
        """Undoes `subscribe`."""
        self._waiters.discard(waiter)

    def wake(self) -> None:
        """Wakes every waiter."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def close(self, flush: bool = True) -> None:
        """Flushes and closes the files. Errors: `OSError`."""
        self.closed = True
        self.wake()
        try:
            if flush:
                self.active.flush()
        finally:
            for segment in self._segments:
                segment.close()


def _is_full(segment: Segment, header: Header, config: LogConfig) -> bool:
    """Whether a batch with this header must begin a new segment."""
    if not segment.size:
        return False
    span = header.max_timestamp - segment.oldest if segment.oldest >= 0 else 0
    return segment.size + header.size > config.segment_bytes or span > config.segment_ms
