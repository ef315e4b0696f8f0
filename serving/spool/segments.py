"""A spool on disk: frames in segments, in a directory that one worker holds under a lock.

Segments only grow. What is not synced survives the death of the process, not that of the machine; a
spool says whether it syncs. The worker holds an flock on the file `lock` for as long as it lives; its 16
bytes say up to where the broker has acknowledged everything, and segments before that place are gone.
A directory's name begins with the time of its making, so names sort as the spools were begun.

A frame, little-endian: length u4 and CRC-32 (zlib's) u4 of the rest, its body. Whose spool it is says
what a body holds. A slate's (`Frame`): key length u2 and value length u4 of the record for `slates` and
of that for `events` (0 and 0 where there is none), and the four of them; then, unless neither has any, the
length u2 of the first one's headers and the headers of both (`schemas.headers.packed`). Frames of before
2026-12 have no headers; a Freshet of before then reads none that has. For a write's see
`serving.spool.frames`.
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
"""Of a frame, beside its body."""
_LENGTHS: Final = struct.Struct("<HIHI")
_HEADERS: Final = struct.Struct("<H")
_MARK: Final = struct.Struct("<QQ")
_LOCK: Final = "lock"


class Frame(NamedTuple):
    """What one answer logs: key and value for `slates`, and for `events` (empty: nothing)."""

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
    """Between two frames: a segment's number, and an offset in it."""

    segment: int
    offset: int


START: Final = Place(0, 0)


def seal(body: bytes) -> bytes:
    """A frame around a body."""
    return _HEAD.pack(len(body), crc32(body)) + body


def unseal(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int]]:
    """Each body of `data` from offset `at` on, and where its frame ends; up to the first frame that is
    not whole.

    >>> [end for _, end in unseal(seal(b"ab") + seal(b"c") + seal(b"d")[:-1])]
    [10, 19]
    """
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        start, end = at + _HEAD.size, at + _HEAD.size + length
        body = data[start:end]
        # no body is empty: a stretch of zeros, which a crash may leave, is no frame
        if not length or end > len(data) or crc32(body) != checksum:
            return
        yield body, end
        at = end


def encode(frame: Frame) -> bytes:
    slate_key, slate, served_key, served, slate_headers, served_headers = frame
    lengths = _LENGTHS.pack(len(slate_key), len(slate), len(served_key), len(served))
    parts = [lengths, slate_key, slate, served_key, served]
    if slate_headers or served_headers:
        first = packed(slate_headers)
        parts += [_HEADERS.pack(len(first)), first, packed(served_headers)]
    return seal(b"".join(parts))


def decode(data: bytes, at: int = 0) -> Iterator[tuple[Frame, int]]:
    """Each frame of `data` from offset `at` on, and where it ends; up to the first that is not whole.

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
    """Those of the two records, from behind them. Errors: ValueError."""
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
        """A new one of a name of its own, which nobody finds before it is locked. Errors: OSError."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        made = cls._locked(root / f".{name}")
        try:
            made.path = made.path.rename(root / name)
        except OSError:
            made.remove()
            raise
        return made

    @classmethod
    def _locked(cls, path: Path) -> Directory:
        path.mkdir(mode=0o700)
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            path.rmdir()
            raise
        made = cls(path, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            made.remove()
            raise
        return made

    @classmethod
    def orphan(cls, root: Path) -> Directory | None:
        """One whose worker is gone, the oldest: it is ours from now on. Errors: OSError."""
        if not root.is_dir():
            return None
        paths = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."]
        return next(filter(None, map(cls._seized, sorted(paths))), None)

    @classmethod
    def orphans(cls, root: Path) -> list[Directory]:
        """All whose workers are gone, the oldest first: one that looks takes all there are, so what a
        worker left and what its successor left don't part. Errors: OSError."""
        if not root.is_dir():
            return []
        turn = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
            return list(iter(lambda: cls.orphan(root), None))
        finally:
            os.close(turn)

    @classmethod
    def _seized(cls, path: Path) -> Directory | None:
        """None where somebody alive has it, where it is gone, or where it can't be opened at all."""
        try:
            lock = os.open(path / _LOCK, os.O_RDWR)
        except OSError:
            with contextlib.suppress(OSError):
                path.rmdir()  # one that was removed up to here
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:  # else its last owner removed it meanwhile
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
        """Everything before it was acknowledged."""
        held = os.pread(self._lock, _MARK.size, 0)
        return Place(*_MARK.unpack(held)) if len(held) == _MARK.size else START

    @mark.setter
    def mark(self, place: Place) -> None:
        # without it frames are sent twice, which does no harm
        with contextlib.suppress(OSError):
            os.pwrite(self._lock, _MARK.pack(*place), 0)

    def sync(self) -> None:
        """The mark, and the names of the segments, survive the machine. Errors: OSError."""
        os.fdatasync(self._lock)
        sync_directory(self.path)

    def drop(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self.segment(number).unlink()

    def remove(self) -> bool:
        """All of it, and lets go of it. False: something of it stays."""
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
        """Leaves it to the next worker that looks."""
        os.close(self._lock)
