"""Acknowledged records that the broker refuses for good: kept on disk for an operator.

There should be none: the edge takes no record larger than a topic takes by default. A record that a
topic's configuration forbids must neither be lost nor block the records behind it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from infra.files import sync_directory
from serving.spool import frames
from serving.spool.frames import Entry

FILE_NAME: Final = "refused.seg"


def keep(root: Path, entry: Entry) -> Path:
    """Appends `entry` to a file of frames (`serving.spool.frames`), syncs it and gives its path. Errors:
    OSError."""
    path = root / FILE_NAME
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        data = frames.encode(entry.topic, [entry.record], entry.at)
        if os.write(file, data) < len(data):
            raise OSError("the disk is full")
        os.fdatasync(file)
    finally:
        os.close(file)
    sync_directory(root)
    return path
