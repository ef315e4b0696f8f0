"""The content of a file, inflated where its first bytes say that it is compressed, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import zstandard

from infra.datasets.rows import NotReadable

BLOCK_BYTES: Final = 1 << 20
"""No block is larger."""
_MIN_BLOCK_BYTES: Final = 1 << 18
_READ_BYTES: Final = 1 << 18
_ZSTD_BYTES: Final = 1 << 10
"""Of a zstd frame at once: a kibibyte inflates to at most 32 MiB, since a block of 4 bytes makes 128 KiB."""
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""Bytes 2 to 4 of a frame without data, which may come first."""
_REFUSED: Final = {
    b"PK\x03\x04": "a zip archive",
    b"BZh91AY&SY": "compressed with bzip2",
    b"\xfd7zXZ\0": "compressed with xz",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"7z\xbc\xaf": "a 7z archive",
    b"SQLite format 3\0": "a database",
    b"Obj\x01": "Avro",
    b"\xd0\xcf\x11\xe0": "an old workbook",
}
_TAR: Final = b"ustar"
_TAR_AT: Final = 257
Progress = Callable[[int], None]
"""Takes how many bytes of the disk were read now."""


def blocks(path: Path, progress: Progress) -> Iterator[bytes]:
    """The content of a file, plain, gzip or zstd, of one member or frame or of several.

    Errors: `NotReadable`, a sentence that wants the file as its subject: at once where it cannot be opened,
    after the content before the place where compressed data is cut or damaged.
    """
    try:
        with path.open("rb") as file:
            yield from _joined(_content(_inflated(_raw(file, progress))))
    except IsADirectoryError:
        raise NotReadable("is a directory", remedy="name the files in it") from None
    except FileNotFoundError:
        raise NotReadable("is not there", remedy="check the name") from None
    except PermissionError:
        raise NotReadable("may not be read", remedy="check its permissions") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "its name is none"
        raise NotReadable(f"cannot be read ({reason})") from None


def peek(found: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` bytes, fewer where there are fewer, and all blocks from the first on.

    Errors: what `found` raises before it gives anything; what it raises later comes in its place.
    """
    source = iter(found)
    held: list[bytes] = []
    failure = None
    try:
        for block in source:
            held.append(block)
            if sum(map(len, held)) >= size:
                break
    except NotReadable as error:
        if not any(held):
            raise
        failure = error
    return b"".join(held)[:size], _again(held, failure, source)


def _again(
    held: list[bytes], failure: NotReadable | None, source: Iterator[bytes]
) -> Iterator[bytes]:
    while held:
        yield held.pop(0)
    if failure:
        raise failure
    yield from source


def _raw(file: IO[bytes], progress: Progress) -> Iterator[bytes]:
    while block := file.read(_READ_BYTES):
        progress(len(block))
        yield block


def _inflated(raw: Iterator[bytes]) -> Iterator[bytes]:
    head, raw = peek(raw, 16)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(raw)
    if head.startswith(_ZSTD) or head[1:4] == _ZSTD_SKIPPABLE:
        return _zstd(raw)
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise NotReadable(f"is {name}", remedy="unpack or export it as text, gzip or zstd")
    return raw


def _content(found: Iterator[bytes]) -> Iterator[bytes]:
    """What was packed. Errors: `NotReadable` where that is packed again."""
    head, found = peek(found, _TAR_AT + len(_TAR))
    if head[_TAR_AT:] == _TAR:
        raise NotReadable("is a tar archive", remedy="unpack it and name the files in it")
    if head.startswith((b"\x1f\x8b\x08", _ZSTD)):
        raise NotReadable("is compressed twice", remedy="unpack it once")
    return found


def _gzip(raw: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    try:
        for data in raw:
            while data:
                if inflater.eof:
                    data = data.lstrip(b"\0")  # zeros may fill up after a member
                    if not data:
                        break
                    inflater = zlib.decompressobj(wbits=31)
                yield from _inflated_until_damage(inflater, data)
                data = inflater.unconsumed_tail or inflater.unused_data
        if not inflater.eof:
            yield inflater.flush()
    except zlib.error:
        raise _damaged("gzip") from None
    if not inflater.eof:
        raise _cut("gzip")


def _inflated_until_damage(inflater: Any, data: bytes) -> Iterator[bytes]:
    """Some of what `data` holds. Errors: `zlib.error`, after all that comes before the damage."""
    before = inflater.copy()
    try:
        yield inflater.decompress(data, BLOCK_BYTES)
    except zlib.error:
        for byte in data:
            yield before.decompress(bytes((byte,)))
        raise


def _zstd(raw: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zstandard.ZstdDecompressor().decompressobj()
    try:
        for block in raw:
            for at in range(0, len(block), _ZSTD_BYTES):
                data = block[at : at + _ZSTD_BYTES]
                while data:
                    if inflater.eof:
                        inflater = zstandard.ZstdDecompressor().decompressobj()
                    yield inflater.decompress(data)
                    data = inflater.unused_data if inflater.eof else b""
    except zstandard.ZstdError as error:
        if "too much memory" in str(error):
            raise NotReadable(
                "needs more than 128 MiB to be unpacked", remedy="pack it without --long"
            ) from None
        raise _damaged("zstd") from None
    if not inflater.eof:
        raise _cut("zstd")


def _cut(name: str) -> NotReadable:
    return NotReadable(f"is cut off within its {name} data", remedy="fetch the file again")


def _damaged(name: str) -> NotReadable:
    return NotReadable(f"is damaged within its {name} data", remedy="fetch the file again")


def _joined(found: Iterable[bytes]) -> Iterator[bytes]:
    """The same content in blocks of `_MIN_BLOCK_BYTES` to `BLOCK_BYTES`; the last may be smaller."""
    held, failure = bytearray(), None
    try:
        for block in found:
            held += block
            while len(held) >= _MIN_BLOCK_BYTES:
                yield bytes(held[:BLOCK_BYTES])
                del held[:BLOCK_BYTES]
    except NotReadable as error:
        failure = error
    if held:
        yield bytes(held)
    if failure:
        raise failure
