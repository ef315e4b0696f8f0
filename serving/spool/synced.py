"""A spool whose frames survive a crash of the machine: a frame that `put` confirms was synced to the disk.

A sync takes a disk some milliseconds, whatever its size. So one sync runs at a time, in a thread, and
covers every frame that was put before it began: all requests of an event-loop iteration share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

from infra.files import sync_directory
from serving.spool.segments import START, Place
from serving.spool.spool import MAX_SEGMENT_BYTES, Spool

CONSEQUENCE: Final = "writes are refused while the broker is away"


class _Flush(NamedTuple):
    """The range of one sync. `files`: descriptors that the sync owns and closes."""

    end: Place
    files: list[int]
    folders: list[Path]


class Synced(Spool):
    """Belongs to an event loop. Errors: none, as `Spool`'s."""

    def __init__(self, root: Path, max_bytes: int, segment_bytes: int = MAX_SEGMENT_BYTES) -> None:
        super().__init__(root, max_bytes, segment_bytes, consequence=CONSEQUENCE)
        self.synced = START
        """Every frame before this place is synced."""
        self._rolled_files: list[int] = []
        self._next: asyncio.Future[bool] | None = None
        self._flushing: asyncio.Task[None] | None = None

    def put(self, frames: bytes) -> asyncio.Future[bool] | None:
        """Takes frames, all or none. The future says whether they were synced; it is shared, so shield it.
        None: the disk does not take them, or the spool is full."""
        if self.append(frames) is None:
            return None
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return self._next

    async def settled(self) -> None:
        """Returns once no frame waits for a sync."""
        while self._flushing is not None:
            await asyncio.shield(self._flushing)

    async def sync_directories(self) -> None:
        """Syncs the mark of acknowledged frames, and the removals under `root`. Errors: OSError."""
        if self._directory is not None:
            await asyncio.to_thread(self._directory.sync)
        if self.root.is_dir():
            await asyncio.to_thread(sync_directory, self.root)

    def synced_end(self, place: Place) -> Place:
        """The end of the synced frames that follow `place` in its segment."""
        return max(place, min(self.segment_end(place), self.synced))

    def close(self, *, empty: bool) -> None:
        super().close(empty=empty)
        self._close_rolled()

    async def _flush(self) -> None:
        try:
            while (waiting := self._next) is not None:
                self._next = None
                try:
                    flush = self._begin_flush()
                    await asyncio.to_thread(_sync, flush)
                except OSError as error:
                    self._discard_unsynced(error, waiting)
                else:
                    self.synced = flush.end
                    waiting.set_result(True)
        finally:
            self._flushing = None

    def _begin_flush(self) -> _Flush:
        """The sync of every frame put so far. Errors: OSError."""
        assert self._directory is not None, "a frame was put"
        # a descriptor of its own: this worker may roll or fail while the thread still syncs
        files = (
            [*self._rolled_files, os.dup(self._file)] if self.writable else [*self._rolled_files]
        )
        self._rolled_files.clear()
        is_new = self._current != self.synced.segment
        folders = [self._directory.path, self.root, self.root.parent] if is_new else []
        return _Flush(self.end, files, folders)

    def _release(self, file: int) -> None:
        self._rolled_files.append(file)

    def _close_rolled(self) -> None:
        for file in self._rolled_files:
            with contextlib.suppress(OSError):
                os.close(file)
        self._rolled_files.clear()

    def _discard_unsynced(self, error: OSError, waiting: asyncio.Future[bool]) -> None:
        """The disk may have dropped any frame since the last sync, so all of them are cut off."""
        for number in list(self._sizes):
            if number >= self.synced.segment:
                size = self.synced.offset if number == self.synced.segment else 0
                self._cut(number, min(size, self._sizes[number]))
        self._failed(error)
        self._close_rolled()
        waiting.set_result(False)
        if self._next is not None:
            self._next.set_result(False)
            self._next = None

    def _cut(self, number: int, size: int) -> None:
        assert self._directory is not None
        self._sizes[number] = size
        with contextlib.suppress(OSError):
            os.truncate(self._directory.segment(number), size)


def _sync(flush: _Flush) -> None:
    """Errors: OSError of the first that failed."""
    try:
        for file in flush.files:
            os.fdatasync(file)
        for folder in flush.folders:
            sync_directory(folder)
    finally:
        for file in flush.files:
            os.close(file)
