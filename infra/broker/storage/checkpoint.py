"""How many bytes of each log were flushed to the disk: a start need not read those."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from infra.broker.storage.log import Log
from infra.files import write_atomically


class Checkpoint:
    """A file of {segment key: flushed bytes} of every log's last segment; earlier segments are flushed.

    A lost or old file costs time on start, never records.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self._bytes = {str(key): int(n) for key, n in json.loads(path.read_text()).items()}

    def flushed_bytes(self, key: str) -> int:
        """Flushed bytes of a segment; 0 for an unknown one."""
        return self._bytes.get(key, 0)

    def flush(self, logs: Sequence[Log]) -> None:
        """Flushes the bytes written since the last flush. Errors: `OSError`."""
        segments = [log.active for log in logs if not log.closed]
        dirty = [segment for segment in segments if segment.flushed < segment.size]
        for segment in dirty:
            segment.flush_from_other_thread()
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
