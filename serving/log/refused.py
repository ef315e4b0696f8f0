"""Records that the broker refuses for good although they were acknowledged: kept on disk, for people.

There should be none: the edge takes nothing larger than a topic takes by default. One that a topic's
configuration forbids must neither be lost nor stop all that waits behind it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from infra.files import sync_directory
from serving.spool import frames
from serving.spool.frames import Entry

NAME: Final = "refused.seg"


def keep(root: Path, entry: Entry) -> Path:
    """Appends it to a file of frames as `serving.spool.frames` has them, and syncs. Errors: OSError."""
    path = root / NAME
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
