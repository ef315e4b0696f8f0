"""One file of a partition's log: the batches from offset `base` on, until the next file begins.

A log is a row of these. Only the last one is written to; one that is full is put on the disk
before the next begins, so damage in any but the last is never a torn write.
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
from infra.broker.storage.recovery import recover

WINDOW: Final = 4096  # bytes read at once when stepping from header to header
NAME: Final = re.compile(r"(\d+)-(\d{20})\.log")
OLD_NAME: Final = re.compile(r"(\d+)\.log")  # of the time when a log was one file


class Segment:
    """`end` is its size in bytes, `at` the bytes of the log that lay before it when it began.

    `newest` is the latest record time in it and `oldest` that of its first batch, in ms; -1
    where it has none.
    """

    def __init__(self, path: Path, base: int, at: int = 0, fresh: bool = False) -> None:
        """Opens the file; `fresh` empties it. Errors: `OSError`."""
        self.path, self.base, self.next, self.at = path, base, base, at
        self.end = self.flushed = 0
        self.newest = self.oldest = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if fresh else 0)
        self._fd = os.open(path, flags, 0o644)
        self._index = Index()

    @property
    def key(self) -> str:
        """What the checkpoint calls it."""
        return f"{self.path.parent.name}/{self.path.name}"

    def recover(self, trusted: int | None) -> Iterator[Header]:
        """Every batch in the file; an unfinished write at its end is cut off.

        `trusted` is the number of bytes known to be on the disk, None for all of them.
        Errors: `OSError`; `CannotStart` where those bytes are damaged.
        """
        for header, position in recover(self._fd, trusted, self.path, self.base):
            self.note(header, position)
            yield header
        self.flushed = self.end if trusted is None else min(trusted, self.end)

    # -- writing

    def write(self, prefix: bytes, rest: memoryview, fsync: bool) -> None:
        """Appends the bytes of one batch. Errors: `OSError`; nothing was appended then."""
        try:
            done = os.pwritev(self._fd, [prefix, rest], self.end)
            if done < len(prefix) + len(rest):  # disk full or a signal: the next call says which
                data = b"".join((prefix, rest))
                while done < len(data):
                    done += os.pwrite(self._fd, data[done:], self.end + done)
            if fsync:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):  # what stays is behind `end`: never read
                os.ftruncate(self._fd, self.end)
            raise

    def note(self, header: Header, position: int) -> None:
        """A batch is in the file at `position`."""
        self._index.note(header, position)
        if position == 0:
            self.oldest = header.max_time
        self.newest = max(self.newest, header.max_time)
        self.next, self.end = header.last + 1, position + header.size

    def age(self, now: int) -> int:
        """ms between its newest record, or its last write where none has a time, and `now`."""
        if self.newest >= 0:
            return now - self.newest
        return now - os.fstat(self._fd).st_mtime_ns // 1_000_000

    # -- reading; positions are bytes of this file

    def locate(self, offset: int) -> int:
        """Position of the batch that holds `offset`; the end for the next one."""
        if offset >= self.next:
            return self.end
        for header, position in self.headers(self._index.at_offset(offset)):
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
        for header, at in self.headers(cut):
            if at + header.size > stop:
                break
            cut = at + header.size
        else:
            cut = self.end
        if cut == position and first_whole:
            cut += batch.header_at(os.pread(self._fd, HEADER.size, position)).size
        return os.pread(self._fd, cut - position, position)

    def at_time(self, time: int, start: int) -> tuple[int, int]:
        """(offset, time) of the first record from offset `start` on that is stamped `time` or
        later; (-1, -1) without one."""
        floor = self.locate(start)
        position = self._index.since(time, floor)
        if position is None:
            return -1, -1
        for header, at in self.headers(max(position, floor)):
            if header.max_time >= time:
                for offset, stamp in self._times(header, at):
                    if stamp >= time and offset >= start:
                        return offset, stamp
        return -1, -1

    def newest_from(self, start: int) -> int:
        """The latest record time from offset `start` on; -1 without one."""
        if start <= self.base:
            return self.newest
        newest = -1
        for header, at in self.headers(self.locate(start)):
            if header.base >= start:
                newest = max(newest, header.max_time)
            else:  # a batch on both sides of it
                stamps = (time for offset, time in self._times(header, at) if offset >= start)
                newest = max(newest, *stamps)
        return newest

    def headers(self, position: int) -> Iterator[tuple[Header, int]]:
        """Every header from `position` on, reading a few kB at a time."""
        while position < self.end:
            window = os.pread(self._fd, WINDOW, position)
            at = 0
            while at + HEADER.size <= len(window) and position + at < self.end:
                header = batch.header_at(window, at)
                yield header, position + at
                at += header.size
            position += at

    def _times(self, header: Header, at: int) -> Iterator[tuple[int, int]]:
        return batch.times(os.pread(self._fd, header.size, at))

    # -- the disk

    def flush(self) -> None:
        """Puts it on the disk. Errors: `OSError`."""
        if self.flushed != self.end:
            os.fsync(self._fd)
            self.flushed = self.end

    def flush_from_elsewhere(self) -> None:
        """The same from another thread, while this one writes or closes. Errors: `OSError`."""
        end = self.end
        try:
            fd = os.dup(self._fd)
        except OSError:  # closed meanwhile: deleted
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
        """Closes and deletes it. Errors: `OSError`; it is closed then."""
        self.close()
        self.path.unlink(missing_ok=True)


def path_of(folder: Path, partition: int, base: int) -> Path:
    """Where the segment from offset `base` on lies."""
    return folder / f"{partition}-{base:020}.log"


def stored(folder: Path) -> dict[int, list[int]]:
    """Base offsets of every partition's segments, ascending; files of old get a new name.

    Errors: `OSError`.
    """
    found: dict[int, list[int]] = {}
    for path in list(folder.iterdir()):
        if old := OLD_NAME.fullmatch(path.name):
            path = path.rename(path_of(folder, int(old[1]), 0))
        if name := NAME.fullmatch(path.name):
            found.setdefault(int(name[1]), []).append(int(name[2]))
    return {partition: sorted(bases) for partition, bases in found.items()}
