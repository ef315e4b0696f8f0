"""Reading a log file on start: every sound batch; the bytes after the last one are cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crc32c import crc32c

from infra.broker.batch import CRC_START, HEADER, Header, header_at
from infra.broker.codes import LOG, CannotStart

HEADER_WINDOW_BYTES: Final = 4096  # read at once when stepping from header to header


def recover(
    fd: int, trusted: int | None, path: Path, expected: int
) -> Iterator[tuple[Header, int]]:
    """Every batch's header and position; the file is cut after the last sound batch.

    Batches that end within the first `trusted` bytes (None: all) were flushed. Of these only the
    headers are read, and damage there is no torn write.  `expected` is the first offset.
    Errors: `OSError`; `CannotStart` for damage of flushed batches.
    """
    size, position = os.fstat(fd).st_size, 0
    remedy = "restore it from a copy"
    if trusted is None:
        trusted = size
    else:
        remedy += ", or delete checkpoint.json to have it cut there"
    window, window_at = b"", 0
    while position + HEADER.size <= size:
        if position + HEADER.size > window_at + len(window):
            window, window_at = os.pread(fd, HEADER_WINDOW_BYTES, position), position
        header = header_at(window, position - window_at)
        end = position + header.size
        sound = header.magic == 2 and header.size >= HEADER.size and header.base_offset >= expected
        if not sound or end > size or header.last_offset_delta < 0:
            break
        if end > trusted and not _checksum_matches(fd, position, header):
            break
        yield header, position
        position, expected = end, header.last_offset + 1
    if position < min(trusted, size) or size < trusted:
        raise CannotStart(
            f"{path} is damaged at byte {position}, inside the {trusted} bytes that were flushed:"
            f" {remedy}"
        )
    if position < size:
        LOG.warning("%s: cut %d bytes of an unfinished write", path, size - position)
        os.ftruncate(fd, position)


def _checksum_matches(fd: int, position: int, header: Header) -> bool:
    data = os.pread(fd, header.size, position)
    return len(data) == header.size and crc32c(memoryview(data)[CRC_START:]) == header.crc
