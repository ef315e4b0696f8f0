"""One partition's log: a row of segments, of which the oldest go and the last one grows.

What is acknowledged is in the page cache (it survives a kill of the process), and on the disk
too where `fsync` is set (it survives a power cut).  A write that fails is undone.  The first
offset is on the disk before a segment below it goes, so a kill in between loses nothing and
leaves nothing behind: the next start finishes it.
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
from infra.broker.configs import Rules
from infra.broker.storage.producers import Producers
from infra.broker.storage.segment import Segment, path_of
from infra.broker.timestamps import check_time, with_append_time
from infra.files import sync_directory, write_atomically


class Receipt(NamedTuple):
    """Offset of the batch's first record; the broker's stamp in ms, or -1 if it set none."""

    base: int
    append_time: int


class Log:
    """`start` is the first readable offset, `next` the one that the next record gets.

    A position is a byte of the log as if it were one file; it never changes while the log is
    open, whatever is deleted before it.
    """

    def __init__(
        self,
        folder: Path,
        partition: int,
        bases: Sequence[int] = (),
        fsync: bool = False,
        trusted: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """Opens the segments that begin at `bases`, or a first one.

        `trusted` tells how many bytes of a segment, by its key, are sound on the disk.
        Errors: `OSError`; `CannotStart` where those bytes are damaged or a segment is missing.
        """
        self._folder, self._partition, self._fsync = folder, partition, fsync
        self._start_file = folder / f"{partition}.start"
        self._producers = Producers()
        self._waiters: set[asyncio.Future[None]] = set()
        self._segments: list[Segment] = []
        self.closed = False
        self.start = int(self._start_file.read_text()) if self._start_file.exists() else 0
        try:
            self._open(self._sweep(bases), trusted)
        except BaseException:
            for segment in self._segments:
                segment.close()
            raise
        self.start = min(self.start, self.next)

    @property
    def active(self) -> Segment:
        """The segment that is written to."""
        return self._segments[-1]

    @property
    def next(self) -> int:
        """The offset that the next record gets."""
        return self._segments[-1].next

    @property
    def end(self) -> int:
        """The position that the next batch gets."""
        last = self._segments[-1]
        return last.at + last.end

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.end for segment in self._segments)

    # -- opening

    def _sweep(self, bases: Sequence[int]) -> list[int]:
        """The bases from `start` on; deletes what a kill left below it."""
        keep = max(bisect_right(bases, self.start) - 1, 0)
        for base in bases[:keep]:
            path_of(self._folder, self._partition, base).unlink()
        if (bases[keep] if bases else 0) > self.start or (self.start and not bases):
            raise CannotStart(
                f"{self._folder}: partition {self._partition} lacks the records from offset"
                f" {self.start} on: restore its files from a copy"
            )
        return list(bases[keep:]) or [0]

    def _open(self, bases: list[int], trusted: Callable[[str], int]) -> None:
        for base in bases:
            path = path_of(self._folder, self._partition, base)
            if self._segments and base != self.next:
                raise CannotStart(
                    f"{path} begins at another offset than {self.next}, where the file before it"
                    " ends: restore both from a copy"
                )
            segment = Segment(path, base, self.end if self._segments else 0)
            self._segments.append(segment)
            for header in segment.recover(trusted(segment.key) if base == bases[-1] else None):
                self._remember(header)

    # -- writing

    def append(self, records: bytes, rules: Rules, now: int) -> Receipt:
        """Appends one batch as a client sent it; a repeated one is answered with its offset.

        `now` is ms since 1970.  Errors: `Refused`; nothing was appended then.
        """
        header = batch.checked(records, rules.max_bytes)
        if header.size > rules.segment_bytes:
            raise Refused(Code.RECORD_LIST_TOO_LARGE, "batch larger than segment.bytes")
        if not rules.append_time:
            check_time(header, rules, now)
        if header.producer >= 0:
            known = self._producers.duplicate(
                header.producer, header.epoch, header.sequence, header.records
            )
            if known is not None:
                return Receipt(known, -1)
        if rules.append_time:
            records, header = with_append_time(records, header, now)
        header = header._replace(base=self.next, leader_epoch=0)
        try:
            if _is_full(self.active, header, rules):
                self._roll()
            prefix = PREFIX.pack(header.base, header.length, 0)
            self.active.write(prefix, memoryview(records)[PREFIX.size :], self._fsync)
        except OSError as error:
            reason = f"write failed: {os.strerror(error.errno or 0)}"
            raise Refused(Code.KAFKA_STORAGE_ERROR, reason) from error
        self.active.note(header, self.active.end)
        self._remember(header)
        self.wake()
        return Receipt(header.base, now if rules.append_time else -1)

    def _remember(self, header: Header) -> None:
        if header.producer >= 0:
            self._producers.note(
                header.producer, header.epoch, header.sequence, header.records, header.base
            )

    def _roll(self) -> None:
        """Begins a new segment. Errors: `OSError`; the old one is still the last then."""
        self.active.flush()
        path = path_of(self._folder, self._partition, self.next)
        segment = Segment(path, self.next, self.end, fresh=True)
        try:
            sync_directory(self._folder)
        except OSError:
            segment.remove()
            raise
        self._segments.append(segment)

    # -- deleting

    def retain(self, rules: Rules, now: int) -> int:
        """Deletes the oldest segments that `rules` no longer keep; how many.

        A segment goes whole, by its newest record's time and by the log's size, as in Kafka.
        Errors: `OSError`.
        """
        count, size = 0, self.size
        for segment in self._segments:
            too_old = 0 <= rules.retention_ms < segment.age(now)
            too_much = 0 <= rules.retention_bytes <= size - segment.end
            if not segment.end or not (too_old or too_much):
                break
            count, size = count + 1, size - segment.end
        if count == len(self._segments):
            self._roll()
        if count:
            self._delete_before(self._segments[count].base)
        return count

    def truncate_before(self, offset: int) -> None:
        """Makes `offset` the first readable one. Errors: `Refused`, `OSError`."""
        if not 0 <= offset <= self.next:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, "offset outside the log")
        if offset > self.start:
            self._delete_before(offset)

    def _delete_before(self, offset: int) -> None:
        """Moves the start up, for good, and deletes the segments that lie before it."""
        if offset > self.start:
            write_atomically(self._start_file, str(offset).encode())
            self.start = offset
        while len(self._segments) > 1 and self._segments[1].base <= self.start:
            segment = self._segments.pop(0)
            try:
                segment.remove()
            except OSError as error:  # the next start sweeps it
                LOG.warning("cannot delete %s: %s", segment.path, os.strerror(error.errno or 0))

    # -- reading

    def locate(self, offset: int) -> int:
        """Position of the batch that holds `offset`; the end of the log for `next`.

        Errors: `Refused` with OFFSET_OUT_OF_RANGE outside `start`..`next`.
        """
        if not self.start <= offset <= self.next:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, "offset outside the log")
        segment = self._segments[bisect_right(self._segments, offset, key=attrgetter("base")) - 1]
        return segment.at + segment.locate(offset)

    def read(self, position: int, limit: int, first_whole: bool) -> bytes:
        """Whole batches of one segment from `position` on, at most `limit` bytes of them.

        With `first_whole` the first batch comes even if it alone is larger.
        """
        segment = self._segments[bisect_right(self._segments, position, key=attrgetter("at")) - 1]
        return segment.read(position - segment.at, limit, first_whole)

    def at_time(self, time: int) -> tuple[int, int]:
        """(offset, time) of the first record stamped `time` ms or later; (-1, -1) without one."""
        for segment in self._segments:
            if segment.newest >= time:
                found = segment.at_time(time, self.start)
                if found != (-1, -1):
                    return found
        return -1, -1

    def newest(self) -> tuple[int, int]:
        """(offset, time) of the first record with the newest time; (-1, -1) without one."""
        if self.start == self.next:
            return -1, -1
        return self.at_time(max(segment.newest_from(self.start) for segment in self._segments))

    # -- waiting and closing

    def subscribe(self, waiter: asyncio.Future[None]) -> None:
        """`waiter` is done as soon as something is appended, or the log is closed."""
        self._waiters.add(waiter)

    def unsubscribe(self, waiter: asyncio.Future[None]) -> None:
        """Undoes `subscribe`."""
        self._waiters.discard(waiter)

    def wake(self) -> None:
        """Tells everyone who waits for more."""
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


def _is_full(segment: Segment, header: Header, rules: Rules) -> bool:
    """Whether a batch with this header must begin a new segment."""
    if not segment.end:
        return False
    waited = header.max_time - segment.oldest if segment.oldest >= 0 else 0
    return segment.end + header.size > rules.segment_bytes or waited > rules.segment_ms
