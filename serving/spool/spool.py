"""A worker's own spool: frames that wait for the log, written before the answer is sent.

Frames are not synced here, which is enough for slates: their durability is not promised. See
`serving.spool.synced`.
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
    """The spool of this worker. It raises no error: `append` gives None for a frame that it can't take.

    `max_bytes` bounds all spools under `root` together; those of other workers count as `measure_others`
    found them. `consequence`: the end of the warning that the spool can't be written.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        segment_bytes: int = MAX_SEGMENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
        consequence: str = "slates wait in memory",
    ) -> None:
        self.root, self.max_bytes = root, max_bytes
        self.writable = False
        self.other_bytes = 0
        """Bytes of other workers' spools, as measured last."""
        # several segments to a full spool: space is freed a segment at a time
        self._segment_bytes = min(segment_bytes, max_bytes // 4)
        self._clock = clock
        self._directory: Directory | None = None
        self._sizes: dict[int, int] = {}
        self._current, self._file = 0, -1
        self._opened = 0.0
        self._warned, self._consequence = False, consequence
        self._acknowledged = START

    @property
    def held(self) -> int:
        """Bytes of this worker's spool on disk."""
        return sum(self._sizes.values())

    @property
    def unsent(self) -> int:
        """Bytes of `held` that the broker has not acknowledged."""
        sent = self._acknowledged.offset if self._acknowledged.segment in self._sizes else 0
        return self.held - sent

    @property
    def end(self) -> Place:
        """The place of the next frame, unless it opens a segment."""
        return Place(self._current, self._sizes.get(self._current, 0))

    def open(self) -> None:
        """Creates directory and segment where they are missing. Where it fails, call it again later."""
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
        """The place at which the frame ends. None: the disk does not take it, or the spool is full."""
        if not self.writable:
            return None
        try:
            if self._roll_is_due():
                self._roll(self._directory)
            if self.held + self.other_bytes + len(frame) > self.max_bytes:
                return None
            written = os.write(self._file, frame)
            if written < len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._failed(error)
            return None
        self._sizes[self._current] += written
        return Place(self._current, self._sizes[self._current])

    def segment_end(self, place: Place) -> Place:
        """The present end of the segment of `place`."""
        return Place(place.segment, self._sizes.get(place.segment, 0))

    def after(self, place: Place) -> Place:
        """The place from which to read next: `place`, or the next segment where `place` ends one."""
        later = [number for number in self._sizes if number > place.segment]
        # a segment that was acknowledged whole is removed already
        done = later and place.offset >= self._sizes.get(place.segment, 0)
        return Place(min(later), 0) if done else place

    def read(self, start: Place, end: Place) -> bytes:
        """The bytes between two places of one segment. Errors: OSError."""
        assert self._directory is not None, "a place comes from `append`"
        return self._directory.read(start.segment, end.offset)[start.offset :]

    def acknowledge(self, place: Place) -> None:
        """The broker has every frame before `place`: removes the segments before it."""
        if self._directory is None:
            return
        self._acknowledged = self._directory.mark = place
        for number, size in list(self._sizes.items()):
            if number != self._current and (number, size) <= place:
                self._directory.drop(number)
                del self._sizes[number]

    def measure_others(self) -> None:
        """Measures the spools of other workers."""
        own = self._directory.path if self._directory else None
        with contextlib.suppress(OSError):
            files = [path for path in self.root.glob("*/*.seg") if path.parent != own]
            self.other_bytes = sum(path.stat().st_size for path in files)

    def close(self, *, empty: bool) -> None:
        """`empty`: every frame was acknowledged, so the directory is removed."""
        self._close_file()
        if self._directory is not None:
            self._directory.remove() if empty else self._directory.close()
            self._directory = None

    def _roll_is_due(self) -> bool:
        size = self._sizes[self._current]
        return size >= self._segment_bytes or (
            size > 0 and self._clock() - self._opened > MAX_SEGMENT_SECONDS
        )

    def _roll(self, directory: Directory | None) -> None:
        """Opens the next segment; the one before is removed when all of it is acknowledged."""
        assert directory is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        file = os.open(directory.segment(self._current + 1), flags, 0o600)
        self._close_file()
        self._current += 1
        self._sizes[self._current] = 0
        self._file, self._opened, self.writable, self._warned = file, self._clock(), True, False
        self.acknowledge(self._acknowledged)

    def _close_file(self) -> None:
        if self.writable:
            self.writable = False
            self._release(self._file)

    def _release(self, file: int) -> None:
        with contextlib.suppress(OSError):
            os.close(file)

    def _failed(self, error: OSError) -> None:
        """Makes the spool unwritable until `open` succeeds; logs the first error of a series."""
        if not self._warned:
            self._warned = True
            why = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log.warning("the spool %s can't be written (%s): %s", self.root, why, self._consequence)
        if self.writable:
            # cuts off an incomplete frame, at which a reader would stop
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._sizes[self._current])
            self._close_file()
