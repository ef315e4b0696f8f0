"""Reading a log file on start: every sound batch, and an end to whatever lies behind the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crc32c import crc32c

from infra.broker.batch import CRC_FROM, HEADER, Header, header_at
from infra.broker.codes import LOG, CannotStart

WINDOW: Final = 4096


def recover(
    fd: int, trusted: int | None, path: Path, expected: int
) -> Iterator[tuple[Header, int]]:
    """Every batch's header and position; the file is cut behind the last sound batch.

    Batches that end within the first `trusted` bytes (None: all) were flushed: they are not read
    again, and damage there is no torn write.  `expected` is the first offset.
    Errors: `OSError`; `CannotStart` for such damage.
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
            window, window_at = os.pread(fd, WINDOW, position), position
        header = header_at(window, position - window_at)
        end = position + header.size
        sound = header.magic == 2 and header.size >= HEADER.size and header.base >= expected
        if not sound or end > size or header.last_delta < 0:
            break
        if end > trusted and not _checksum_fits(fd, position, header):
            break
        yield header, position
        position, expected = end, header.last + 1
    if position < min(trusted, size) or size < trusted:
        raise CannotStart(
            f"{path} is damaged at byte {position}, inside the {trusted} bytes that were flushed:"
            f" {remedy}"
        )
    if position < size:
        LOG.warning("%s: cut %d bytes of an unfinished write", path, size - position)
        os.ftruncate(fd, position)


def _checksum_fits(fd: int, position: int, header: Header) -> bool:
    data = os.pread(fd, header.size, position)
    return len(data) == header.size and crc32c(memoryview(data)[CRC_FROM:]) == header.crc
