"""One partition's log: a file of record batches, one behind the other.

What is acknowledged is in the page cache (it survives a kill of the process), and on the disk
too where `fsync` is set (it survives a power cut).  A write that fails is undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from crc32c import crc32c

from infra.broker import batch
from infra.broker.batch import CRC_FROM, HEADER, LOG_APPEND_TIME_BIT, PREFIX, Header
from infra.broker.codes import Code, Refused
from infra.broker.configs import Rules
from infra.broker.files import write_atomically
from infra.broker.index import Index
from infra.broker.producers import Producers
from infra.broker.recovery import recover

WINDOW: Final = 4096  # bytes read at once when stepping from header to header


class Receipt(NamedTuple):
    """Offset of the batch's first record; the broker's stamp in ms, or -1 if it set none."""

    base: int
    append_time: int


class Log:
    """`start` is the first readable offset, `next` the one that the next record gets."""

    def __init__(self, path: Path, fsync: bool = False, trusted: int = 0) -> None:
        """Opens or creates the file and cuts a torn tail off.

        `trusted` is the number of bytes known to be sound on the disk.  Errors: `OSError`;
        `CannotStart` where those bytes are damaged.
        """
        self._path, self._fsync = path, fsync
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._index, self._producers = Index(), Producers()
        self._waiters: set[asyncio.Future[None]] = set()
        self.next, self.end, self.closed = 0, 0, False
        try:
            for header, position in recover(self._fd, trusted, path):
                self._note(header, position)
            self.start = self._read_start()
        except BaseException:
            os.close(self._fd)
            raise
        self.flushed = min(trusted, self.end)

    # -- writing

    def append(self, records: bytes, rules: Rules, now: int) -> Receipt:
        """Appends one batch as a client sent it; a repeated one is answered with its offset.

        `now` is ms since 1970.  Errors: `Refused`; nothing was appended then.
        """
        header = batch.checked(records, rules.max_bytes, rules.keyed)
        if not rules.append_time:
            _check_time(header, rules, now)
        if header.producer >= 0:
            known = self._producers.duplicate(
                header.producer, header.epoch, header.sequence, header.records
            )
            if known is not None:
                return Receipt(known, -1)
        if rules.append_time:
            records, header = _stamped(records, header, now)
        header = header._replace(base=self.next, leader_epoch=0)
        self._write(PREFIX.pack(header.base, header.length, 0), memoryview(records)[PREFIX.size :])
        self._note(header, self.end)
        self.wake()
        return Receipt(header.base, now if rules.append_time else -1)

    def _write(self, prefix: bytes, rest: memoryview) -> None:
        try:
            done = os.pwritev(self._fd, [prefix, rest], self.end)
            if done < len(prefix) + len(rest):  # disk full or a signal: the next call says which
                data = b"".join((prefix, rest))
                while done < len(data):
                    done += os.pwrite(self._fd, data[done:], self.end + done)
            if self._fsync:
                os.fdatasync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # what stays is behind `end`: never read
                os.ftruncate(self._fd, self.end)
            raise Refused(
                Code.KAFKA_STORAGE_ERROR, f"write failed: {os.strerror(error.errno or 0)}"
            ) from error

    def _note(self, header: Header, position: int) -> None:
        """A batch is in the file at `position`."""
        self._index.note(header, position)
        if header.producer >= 0:
            self._producers.note(
                header.producer, header.epoch, header.sequence, header.records, header.base
            )
        self.next, self.end = header.last + 1, position + header.size

    def truncate_before(self, offset: int) -> None:
        """Makes `offset` the first readable one; the bytes stay. Errors: `Refused`, `OSError`."""
        if not 0 <= offset <= self.next:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, "offset outside the log")
        if offset > self.start:
            write_atomically(self._path.with_suffix(".start"), str(offset).encode())
            self.start = offset

    def _read_start(self) -> int:
        path = self._path.with_suffix(".start")
        return min(int(path.read_text()), self.next) if path.exists() else 0

    # -- reading

    def locate(self, offset: int) -> int:
        """Position of the batch that holds `offset`; the end of the file for `next`.

        Errors: `Refused` with OFFSET_OUT_OF_RANGE outside `start`..`next`.
        """
        if not self.start <= offset <= self.next:
            raise Refused(Code.OFFSET_OUT_OF_RANGE, "offset outside the log")
        if offset == self.next:
            return self.end
        for header, position in self._headers(self._index.at_offset(offset)):
            if header.last >= offset:
                return position
        return self.end

    def read(self, position: int, limit: int, first_whole: bool) -> bytes:
        """Whole batches from `position` on, at most `limit` bytes of them.

        With `first_whole` the first batch comes even if it alone is larger.
        """
        stop = position + limit
        if stop >= self.end:
            return os.pread(self._fd, self.end - position, position)
        cut = max(position, self._index.at_position(stop))
        for header, at in self._headers(cut):
            if at + header.size > stop:
                break
            cut = at + header.size
        else:
            cut = self.end
        if cut == position and first_whole:
            cut += batch.header_at(os.pread(self._fd, HEADER.size, position)).size
        return os.pread(self._fd, cut - position, position)

    def at_time(self, time: int) -> tuple[int, int]:
        """(offset, time) of the first record stamped `time` ms or later; (-1, -1) without one."""
        floor = self.locate(self.start)
        position = self._index.since(time, floor)
        if position is None:
            return -1, -1
        for header, at in self._headers(max(position, floor)):
            if header.max_time >= time:
                for offset, stamp in batch.times(os.pread(self._fd, header.size, at)):
                    if stamp >= time and offset >= self.start:
                        return offset, stamp
        return -1, -1

    def newest(self) -> tuple[int, int]:
        """(offset, time) of the first record with the newest time; (-1, -1) without one."""
        floor = self.locate(self.start)
        time = self._index.newest(floor)
        if time is None or self.start == self.next:
            return -1, -1
        found = self.at_time(time)
        if found == (-1, -1):  # it was just before `start`: the index is not that fine
            found = self.at_time(max(header.max_time for header, _ in self._headers(floor)))
        return found

    def _headers(self, position: int) -> Iterator[tuple[Header, int]]:
        """Every header from `position` on, reading a few kB at a time."""
        while position < self.end:
            window = os.pread(self._fd, WINDOW, position)
            at = 0
            while at + HEADER.size <= len(window) and position + at < self.end:
                header = batch.header_at(window, at)
                yield header, position + at
                at += header.size
            position += at

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

    def duplicate_fd(self) -> int:
        """A descriptor of the file that outlives `close`, for a flush in another thread."""
        return os.dup(self._fd)

    def close(self, flush: bool = True) -> None:
        """Flushes and closes the file. Errors: `OSError`."""
        self.closed = True
        self.wake()
        try:
            if flush and self.flushed != self.end:
                os.fsync(self._fd)
                self.flushed = self.end
        finally:
            os.close(self._fd)


def _check_time(header: Header, rules: Rules, now: int) -> None:
    ahead = max(header.max_time, header.base_time) - now
    if ahead > rules.max_ahead or (header.base_time >= 0 and -ahead > rules.max_behind):
        raise Refused(Code.INVALID_TIMESTAMP, "record timestamp too far from the broker's clock")


def _stamped(records: bytes, header: Header, now: int) -> tuple[bytes, Header]:
    """The batch with the broker's time as every record's, and a checksum that fits."""
    header = header._replace(attributes=header.attributes | LOG_APPEND_TIME_BIT, max_time=now)
    data = bytearray(HEADER.pack(*header))
    data += memoryview(records)[HEADER.size :]
    header = header._replace(crc=crc32c(memoryview(data)[CRC_FROM:]))
    struct.pack_into(">I", data, CRC_FROM - 4, header.crc)
    return bytes(data), header
