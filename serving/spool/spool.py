"""A worker's own spool: what waits for the log, on disk before the answer goes out.

Nothing is synced here, which is enough for slates: nobody was promised them. See `serving.spool.synced`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serving.spool.segments import START, Directory, Place

log = logging.getLogger("freshet.serving")

MAX_SEGMENT_BYTES: Final = 8 << 20
MAX_SEGMENT_SECONDS: Final = 60.0


class Spool:
    """This worker's own. It raises nothing: what it can't take, `append` answers with None.

    `most_bytes` bounds all spools under `root` together, as far as `look` has seen those of others.
    `otherwise` says what becomes of what it can't take.
    """

    def __init__(
        self,
        root: Path,
        most_bytes: int,
        segment_bytes: int = MAX_SEGMENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
        otherwise: str = "slates wait in memory",
    ) -> None:
        self.root, self.most_bytes = root, most_bytes
        self.writable = False
        self.others = 0
        """Bytes that other workers' spools held when we last looked."""
        # several to a full spool: room comes back a segment at a time
        self._segment_bytes = min(segment_bytes, most_bytes // 4)
        self._clock = clock
        self._directory: Directory | None = None
        self._sizes: dict[int, int] = {}
        self._current, self._file = 0, -1
        self._opened = 0.0
        self._told, self._otherwise = False, otherwise
        self._acknowledged = START

    @property
    def held(self) -> int:
        """Bytes on disk of this worker's."""
        return sum(self._sizes.values())

    @property
    def unsent(self) -> int:
        """Bytes of them that the broker has not acknowledged."""
        sent = self._acknowledged.offset if self._acknowledged.segment in self._sizes else 0
        return self.held - sent

    @property
    def end(self) -> Place:
        """Where the next frame goes, unless it opens a segment."""
        return Place(self._current, self._sizes.get(self._current, 0))

    def open(self) -> None:
        """Makes directory and segment where they are missing; to be tried again where it fails."""
        if self.writable:
            return
        try:
            if self._directory is None:
                self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._directory = Directory.make(self.root)
            self._roll(self._directory)
        except OSError as error:
            self._failed(error)

    def append(self, frame: bytes) -> Place | None:
        """Where it ends. None: the disk does not take it, or there is no room left for it."""
        if not self.writable:
            return None
        try:
            if self._is_due():
                self._roll(self._directory)
            if self.held + self.others + len(frame) > self.most_bytes:
                return None
            written = os.write(self._file, frame)
            if written < len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._failed(error)
            return None
        self._sizes[self._current] += written
        return Place(self._current, self._sizes[self._current])

    def goal(self, place: Place) -> Place:
        """The end of the segment that `place` lies in, as far as it goes now."""
        return Place(place.segment, self._sizes.get(place.segment, 0))

    def after(self, place: Place) -> Place:
        """Where reading goes on: the next segment, where `place` ends one."""
        later = [number for number in self._sizes if number > place.segment]
        # one that was acknowledged as a whole is gone already
        done = later and place.offset >= self._sizes.get(place.segment, 0)
        return Place(min(later), 0) if done else place

    def read(self, start: Place, end: Place) -> bytes:
        """What lies between two places of one segment. Errors: OSError."""
        assert self._directory is not None, "a place comes from `append`"
        return self._directory.read(start.segment, end.offset)[start.offset :]

    def acknowledge(self, place: Place) -> None:
        """The broker has everything before `place`."""
        if self._directory is None:
            return
        self._acknowledged = self._directory.mark = place
        for number, size in list(self._sizes.items()):
            if number != self._current and (number, size) <= place:
                self._directory.drop(number)
                del self._sizes[number]

    def look(self) -> None:
        """Sees how much the other workers' spools hold."""
        own = self._directory.path if self._directory else None
        with contextlib.suppress(OSError):
            files = [path for path in self.root.glob("*/*.seg") if path.parent != own]
            self.others = sum(path.stat().st_size for path in files)

    def close(self, *, empty: bool) -> None:
        """`empty`: everything was acknowledged, so there is nothing to leave to anybody."""
        self._shut()
        if self._directory is not None:
            self._directory.remove() if empty else self._directory.close()
            self._directory = None

    def _is_due(self) -> bool:
        size = self._sizes[self._current]
        return size >= self._segment_bytes or (
            size > 0 and self._clock() - self._opened > MAX_SEGMENT_SECONDS
        )

    def _roll(self, directory: Directory | None) -> None:
        """Opens the next segment; the one before goes when all of it is acknowledged."""
        assert directory is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        file = os.open(directory.segment(self._current + 1), flags, 0o600)
        self._shut()
        self._current += 1
        self._sizes[self._current] = 0
        self._file, self._opened, self.writable, self._told = file, self._clock(), True, False
        self.acknowledge(self._acknowledged)

    def _shut(self) -> None:
        if self.writable:
            self.writable = False
            self._let_go(self._file)

    def _let_go(self, file: int) -> None:
        with contextlib.suppress(OSError):
            os.close(file)

    def _failed(self, error: OSError) -> None:
        """Off until `open` succeeds: a disk that is full or read-only stays so for a while."""
        if not self._told:
            self._told = True
            why = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log.warning("the spool %s can't be written (%s): %s", self.root, why, self._otherwise)
        if self.writable:
            # cuts off what a short write left; a reader would stop there
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._sizes[self._current])
            self._shut()
