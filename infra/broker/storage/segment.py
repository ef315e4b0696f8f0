"""One file of a partition's log: the batches from its base offset up to the next file's.

A log is a sequence of segments. Only the last one is written to. A full segment is flushed before
the next begins, so damage in any segment but the last is never a torn write.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.broker import batch
from infra.broker.batch import HEADER, Header
from infra.broker.storage.index import Index
from infra.broker.storage.recovery import HEADER_WINDOW_BYTES, recover

FILE_NAME: Final = re.compile(r"(\d+)-(\d{20})\.log")
OLD_FILE_NAME: Final = re.compile(r"(\d+)\.log")  # of older versions, where a log was one file


class Segment:
    """A segment of `size` bytes, which begins at byte `start_position` of its log.

    `newest` is the latest record time in it and `oldest` that of its first batch, in ms; -1 without
    records.
    """

    def __init__(
        self, path: Path, base_offset: int, start_position: int = 0, truncate: bool = False
    ) -> None:
        """Opens the file; `truncate` empties it. Errors: `OSError`."""
        self.path, self.start_position = path, start_position
        self.base_offset = self.next_offset = base_offset
        self.size = self.flushed = 0
        self.newest = self.oldest = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if truncate else 0)
        self._fd = os.open(path, flags, 0o644)
        self._index = Index()

    @property
    def key(self) -> str:
        """The segment's name in the checkpoint."""
        return f"{self.path.parent.name}/{self.path.name}"

    def recover(self, trusted: int | None) -> Iterator[Header]:
        """Every batch in the file; an unfinished write at its end is cut off.

        `trusted` is the number of flushed bytes, None for all of them.
        Errors: `OSError`; `CannotStart` where flushed bytes are damaged.
        """
        for header, position in recover(self._fd, trusted, self.path, self.base_offset):
            self.add(header, position)
            yield header
        self.flushed = self.size if trusted is None else min(trusted, self.size)

    # -- writing

    def write(self, prefix: bytes, rest: memoryview, fsync: bool) -> None:
        """Appends the bytes of one batch. Errors: `OSError`; no byte is appended then."""
        try:
            done = os.pwritev(self._fd, [prefix, rest], self.size)
            if done < len(prefix) + len(rest):  # disk full or a signal: the next call shows which
                data = b"".join((prefix, rest))
                while done < len(data):
                    done += os.pwrite(self._fd, data[done:], self.size + done)
            if fsync:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # bytes after `size` are never read
                os.ftruncate(self._fd, self.size)
            raise

    def add(self, header: Header, position: int) -> None:
        """Counts and indexes a batch that was written at `position`."""
        self._index.add(header, position)
        if position == 0:
            self.oldest = header.max_timestamp
        self.newest = max(self.newest, header.max_timestamp)
        self.next_offset, self.size = header.last_offset + 1, position + header.size

    def age(self, now: int) -> int:
        """ms from the newest record, or from the last write where no record has a time, to `now`."""
        if self.newest >= 0:
            return now - self.newest
        return now - os.fstat(self._fd).st_mtime_ns // 1_000_000

    # -- reading; positions are bytes of this file, times are ms since 1970

    def locate(self, offset: int) -> int:
        """Position of the batch that holds `offset`; the end of the file for `next_offset`."""
        if offset >= self.next_offset:
            return self.size
        for header, position in self.headers(self._index.at_offset(offset)):
            if header.last_offset >= offset:
                return position
        return self.size

    def read(self, position: int, limit: int, first_whole: bool) -> bytes:
        """Whole batches from `position` on, at most `limit` bytes of them.

        With `first_whole` the first batch is read even if it alone is larger.
        """
        stop = position + limit
        if stop >= self.size:
            return os.pread(self._fd, self.size - position, position)
        cut = max(position, self._index.at_position(stop))
        for header, at in self.headers(cut):
            if at + header.size > stop:
                break
            cut = at + header.size
        else:
            cut = self.size
        if cut == position and first_whole:
            cut += batch.header_at(os.pread(self._fd, HEADER.size, position)).size
        return os.pread(self._fd, cut - position, position)

    def at_time(self, time: int, start: int) -> tuple[int, int]:
        """(offset, time) of the first record from offset `start` on whose time is `time` or later;
        (-1, -1) without one."""
        floor = self.locate(start)
        position = self._index.since(time, floor)
        if position is None:
            return -1, -1
        for header, at in self.headers(max(position, floor)):
            if header.max_timestamp >= time:
                for offset, timestamp in self._times(header, at):
                    if timestamp >= time and offset >= start:
                        return offset, timestamp
        return -1, -1

    def newest_from(self, start: int) -> int:
        """The latest record time from offset `start` on; -1 without one."""
        if start <= self.base_offset:
            return self.newest
        newest = -1
        for header, at in self.headers(self.locate(start)):
            if header.base_offset >= start:
                newest = max(newest, header.max_timestamp)
            else:  # a batch with records before and after `start`
                times = (time for offset, time in self._times(header, at) if offset >= start)
                newest = max(newest, *times)
        return newest

    def headers(self, position: int) -> Iterator[tuple[Header, int]]:
        """Every header and its position, from `position` on; reads a few kB at a time."""
        while position < self.size:
            window = os.pread(self._fd, HEADER_WINDOW_BYTES, position)
            at = 0
            while at + HEADER.size <= len(window) and position + at < self.size:
                header = batch.header_at(window, at)
                yield header, position + at
                at += header.size
            position += at

    def _times(self, header: Header, at: int) -> Iterator[tuple[int, int]]:
        return batch.record_times(os.pread(self._fd, header.size, at))

    # -- the disk

    def flush(self) -> None:
        """Puts the file on the disk. Errors: `OSError`."""
        if self.flushed != self.size:
            os.fsync(self._fd)
            self.flushed = self.size

    def flush_from_other_thread(self) -> None:
        """Flushes in another thread than the one that writes or closes. Errors: `OSError`."""
        end = self.size
        try:
            fd = os.dup(self._fd)
        except OSError:  # closed meanwhile, since it was deleted
            return
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.flushed = max(end, self.flushed)

    def close(self) -> None:
        """Closes the file as it is."""
        os.close(self._fd)

    def remove(self) -> None:
        """Closes and deletes the file. Errors: `OSError`; the file is closed then."""
        self.close()
        self.path.unlink(missing_ok=True)


def segment_path(folder: Path, partition: int, base: int) -> Path:
    """The file of the segment that begins at offset `base`."""
    return folder / f"{partition}-{base:020}.log"


def stored_segments(folder: Path) -> dict[int, list[int]]:
    """Base offsets of every partition's segments, ascending; files of older versions are renamed.

    Errors: `OSError`.
    """
    bases_by_partition: dict[int, list[int]] = {}
    for path in list(folder.iterdir()):
        if old := OLD_FILE_NAME.fullmatch(path.name):
            path = path.rename(segment_path(folder, int(old[1]), 0))
        if name := FILE_NAME.fullmatch(path.name):
            bases_by_partition.setdefault(int(name[1]), []).append(int(name[2]))
    return {partition: sorted(bases) for partition, bases in bases_by_partition.items()}
