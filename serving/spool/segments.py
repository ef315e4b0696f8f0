"""A spool on disk: frames in segments, in a directory that one worker holds under a lock.

Segments only grow. Unsynced frames survive the death of the process, not that of the machine; `Spool` does
not sync, `Synced` does. The worker holds an flock on the file `lock` for as long as it lives; the 16 bytes
of the file are the place up to which the broker has acknowledged every frame, and earlier segments are
removed. A directory's name begins with the time of its creation, so names sort by age.

A frame, little-endian: length u4 and CRC-32 (zlib's) u4 of the body, then the body. The kind of spool
determines the body. A slate's (`Frame`): key length u2 and value length u4 of the record for `slates` and
of the one for `events` (0 and 0 where there is none), then the two keys and values; then, unless neither
record has headers, the length u2 of the first one's headers and the headers of both
(`schemas.headers.packed`). Frames from before 2026-12 have no headers; a Freshet from before then reads no
frame with headers. For the body of a write see `serving.spool.frames`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from infra.files import sync_directory
from schemas.headers import Headers, packed, unpacked

_HEAD: Final = struct.Struct("<II")
HEAD_BYTES: Final = _HEAD.size
"""Bytes of a frame before its body."""
_LENGTHS: Final = struct.Struct("<HIHI")
_HEADERS: Final = struct.Struct("<H")
_MARK: Final = struct.Struct("<QQ")
_LOCK: Final = "lock"


class Frame(NamedTuple):
    """The records of one answer: key and value for `slates`, and for `events` (empty where it has none)."""

    slate_key: bytes
    slate: bytes
    served_key: bytes = b""
    served: bytes = b""
    slate_headers: Headers = ()
    served_headers: Headers = ()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return len(encode(self))


class Place(NamedTuple):
    """A place between two frames: a segment's number, and an offset in it in bytes."""

    segment: int
    offset: int


START: Final = Place(0, 0)


def seal(body: bytes) -> bytes:
    """The frame of a body."""
    return _HEAD.pack(len(body), crc32(body)) + body


def unseal(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int]]:
    """Each body of `data` from offset `at` on, and the offset at which its frame ends; stops at the first
    frame that is not whole.

    >>> [end for _, end in unseal(seal(b"ab") + seal(b"c") + seal(b"d")[:-1])]
    [10, 19]
    """
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + length
        body = data[start:end]
        # no body is empty: zeros, which a crash may leave, are no frame
        if not length or end > len(data) or crc32(body) != checksum:
            return
        yield body, end
        at = end


def encode(frame: Frame) -> bytes:
    slate_key, slate, served_key, served, slate_headers, served_headers = frame
    lengths = _LENGTHS.pack(len(slate_key), len(slate), len(served_key), len(served))
    fields = [lengths, slate_key, slate, served_key, served]
    if slate_headers or served_headers:
        first = packed(slate_headers)
        fields += [_HEADERS.pack(len(first)), first, packed(served_headers)]
    return seal(b"".join(fields))


def decode(data: bytes, at: int = 0) -> Iterator[tuple[Frame, int]]:
    """Each frame of `data` from offset `at` on, and the offset at which it ends; stops at the first frame
    that is not whole.

    >>> frame = Frame(b"k", b"v")
    >>> [end for _, end in decode(encode(frame) + encode(frame)[:-1])]
    [22]
    """
    for body, end in unseal(data, at):
        if len(body) < _LENGTHS.size:
            return
        cuts = [_LENGTHS.size]
        for size in _LENGTHS.unpack_from(body):
            cuts.append(cuts[-1] + size)
        if cuts[-1] > len(body):
            return
        try:
            headers = _headers(body[cuts[-1] :])
        except ValueError:
            return
        slate_key, slate, served_key, served = (body[a:b] for a, b in pairwise(cuts))
        yield Frame(slate_key, slate, served_key, served, *headers), end


def _headers(tail: bytes) -> tuple[Headers, Headers]:
    """The headers of the two records, from the bytes after the records. Errors: ValueError."""
    if not tail:
        return (), ()
    if len(tail) < _HEADERS.size:
        raise ValueError("headers end within a length")
    cut = _HEADERS.size + _HEADERS.unpack_from(tail)[0]
    if cut > len(tail):
        raise ValueError("headers end within one")
    return unpacked(tail[_HEADERS.size : cut]), unpacked(tail[cut:])


class Directory:
    """One worker's segments, under its lock. Every method works on the disk."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path, self._lock = path, lock

    @classmethod
    def make(cls, root: Path) -> Directory:
        """A new directory with a unique name; it is locked before another worker can find it. Errors:
        OSError."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        directory = cls._locked(root / f".{name}")
        try:
            directory.path = directory.path.rename(root / name)
        except OSError:
            directory.remove()
            raise
        return directory

    @classmethod
    def _locked(cls, path: Path) -> Directory:
        path.mkdir(mode=0o700)
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            path.rmdir()
            raise
        directory = cls(path, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            directory.remove()
            raise
        return directory

    @classmethod
    def orphan(cls, root: Path) -> Directory | None:
        """The oldest directory whose worker has ended, now locked by this process; None where there is none.
        Errors: OSError."""
        if not root.is_dir():
            return None
        paths = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."]
        return next(filter(None, map(cls._claimed, sorted(paths))), None)

    @classmethod
    def orphans(cls, root: Path) -> list[Directory]:
        """All directories whose workers have ended, the oldest first. One process takes all of them, so the
        spools of a worker and of its successor are drained in order. Errors: OSError."""
        if not root.is_dir():
            return []
        root_lock = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(root_lock, fcntl.LOCK_EX)
            return list(iter(lambda: cls.orphan(root), None))
        finally:
            os.close(root_lock)

    @classmethod
    def _claimed(cls, path: Path) -> Directory | None:
        """The directory, locked; None where a living worker has the lock, or it is removed or can't be
        opened."""
        try:
            lock = os.open(path / _LOCK, os.O_RDWR)
        except OSError:
            with contextlib.suppress(OSError):
                path.rmdir()  # its removal was cut short
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:  # else its owner removed it meanwhile
                return cls(path, lock)
        except OSError:
            pass
        os.close(lock)
        return None

    def segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self.path.glob("*.seg") if path.stem.isdigit())

    def segment(self, number: int) -> Path:
        return self.path / f"{number:06d}.seg"

    def read(self, number: int, until: int | None = None) -> bytes:
        """A segment's bytes, or its first `until`. Errors: OSError."""
        with self.segment(number).open("rb") as file:
            return file.read() if until is None else file.read(until)

    @property
    def mark(self) -> Place:
        """The broker has acknowledged every frame before this place."""
        stored = os.pread(self._lock, _MARK.size, 0)
        return Place(*_MARK.unpack(stored)) if len(stored) == _MARK.size else START

    @mark.setter
    def mark(self, place: Place) -> None:
        # where it is not written, frames are sent twice, which does no harm
        with contextlib.suppress(OSError):
            os.pwrite(self._lock, _MARK.pack(*place), 0)

    def sync(self) -> None:
        """Syncs the mark and the names of the segments. Errors: OSError."""
        os.fdatasync(self._lock)
        sync_directory(self.path)

    def drop(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self.segment(number).unlink()

    def remove(self) -> bool:
        """Removes the directory and releases its lock. False where a file of it stays."""
        for number in self.segments():
            self.drop(number)
        try:
            (self.path / _LOCK).unlink()
            self.path.rmdir()
        except OSError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Releases the lock: another worker may take the directory over."""
        os.close(self._lock)
