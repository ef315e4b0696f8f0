"""How many bytes of each log are known to be on the disk, so that a start need not read them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from infra.broker.storage.log import Log
from infra.files import write_atomically


class Checkpoint:
    """A file of {segment key: bytes}, of every log's last segment: those before it are flushed.

    A lost or old file costs time on start, never records.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self._bytes = {str(key): int(n) for key, n in json.loads(path.read_text()).items()}

    def trusted(self, key: str) -> int:
        """Bytes of the segment that were flushed; 0 for an unknown one."""
        return self._bytes.get(key, 0)

    def flush(self, logs: Sequence[Log]) -> None:
        """Flushes what was written since the last time. Errors: `OSError`."""
        segments = [log.active for log in logs if not log.closed]
        dirty = [segment for segment in segments if segment.flushed < segment.end]
        for segment in dirty:
            segment.flush_from_elsewhere()
        if dirty:
            self._write(logs)

    def close(self, logs: Sequence[Log]) -> None:
        """Flushes and closes every log. Errors: `OSError`, after all are closed."""
        failed = None
        for log in logs:
            try:
                log.close()
            except OSError as error:
                failed = error
        self._write(logs)
        if failed is not None:
            raise failed

    def _write(self, logs: Sequence[Log]) -> None:
        last = [log.active for log in logs]
        self._bytes = {segment.key: segment.flushed for segment in last}
        write_atomically(self._path, json.dumps(self._bytes).encode())
