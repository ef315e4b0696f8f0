"""A spool whose frames survive the machine: what `put` says it has was synced to the disk.

A sync costs a disk some milliseconds, whatever it is for, so there is one at a time, in a thread, and
it is for everything that was put before it began: all requests of an event-loop turn share one.
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

OTHERWISE: Final = "writes are refused while the broker is away"


class _Flush(NamedTuple):
    """What one sync is for; `files` are its own, and closed by it."""

    end: Place
    files: list[int]
    folders: list[Path]


class Synced(Spool):
    """Belongs to an event loop. Errors: none, as `Spool`'s."""

    def __init__(self, root: Path, most_bytes: int, segment_bytes: int = MAX_SEGMENT_BYTES) -> None:
        super().__init__(root, most_bytes, segment_bytes, otherwise=OTHERWISE)
        self.synced = START
        """Everything before it survives the machine."""
        self._rolled: list[int] = []
        self._next: asyncio.Future[bool] | None = None
        self._flushing: asyncio.Task[None] | None = None

    def put(self, frames: bytes) -> asyncio.Future[bool] | None:
        """Takes frames, all or none. The future says whether they survive the machine; it is shared, so
        shield it. None: the disk does not take them, or there is no room left for them."""
        if self.append(frames) is None:
            return None
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return self._next

    async def settled(self) -> None:
        """Returns once nothing that was put waits for a sync."""
        while self._flushing is not None:
            await asyncio.shield(self._flushing)

    async def remember(self) -> None:
        """What the broker acknowledged, and what was removed under `root`, stays so if the machine dies.
        Errors: OSError."""
        if self._directory is not None:
            await asyncio.to_thread(self._directory.sync)
        if self.root.is_dir():
            await asyncio.to_thread(sync_directory, self.root)

    def limit(self, place: Place) -> Place:
        """How far what follows `place` in its segment can be read: as far as it is synced."""
        return max(place, min(self.goal(place), self.synced))

    def close(self, *, empty: bool) -> None:
        super().close(empty=empty)
        self._close_rolled()

    async def _flush(self) -> None:
        try:
            while (waiting := self._next) is not None:
                self._next = None
                try:
                    flush = self._begin()
                    await asyncio.to_thread(_sync, flush)
                except OSError as error:
                    self._unsynced(error, waiting)
                else:
                    self.synced = flush.end
                    waiting.set_result(True)
        finally:
            self._flushing = None

    def _begin(self) -> _Flush:
        """Errors: OSError."""
        assert self._directory is not None, "something was put"
        # its own descriptor: this worker may roll or fail while the thread still syncs
        files = [*self._rolled, os.dup(self._file)] if self.writable else [*self._rolled]
        self._rolled.clear()
        is_new = self._current != self.synced.segment
        folders = [self._directory.path, self.root, self.root.parent] if is_new else []
        return _Flush(self.end, files, folders)

    def _let_go(self, file: int) -> None:
        self._rolled.append(file)

    def _close_rolled(self) -> None:
        for file in self._rolled:
            with contextlib.suppress(OSError):
                os.close(file)
        self._rolled.clear()

    def _unsynced(self, error: OSError, waiting: asyncio.Future[bool]) -> None:
        """The disk may have dropped any of it, so none that was put since the last sync counts."""
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
