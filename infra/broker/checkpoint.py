"""How many bytes of each log are known to be on the disk, so that a start need not read them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from infra.broker.files import write_atomically
from infra.broker.log import Log


class Checkpoint:
    """A file of {log key: bytes}. A lost or old file costs time on start, never records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self._bytes = {str(key): int(n) for key, n in json.loads(path.read_text()).items()}

    def trusted(self, key: str) -> int:
        """Bytes of the log that were flushed; 0 for an unknown one."""
        return self._bytes.get(key, 0)

    def flush(self, logs: Mapping[str, Log]) -> None:
        """Flushes what was written since the last time. Errors: `OSError`."""
        dirty = {key: log for key, log in logs.items() if not log.closed and log.flushed < log.end}
        for log in dirty.values():
            end = log.end
            try:
                fd = log.duplicate_fd()
            except OSError:  # closed meanwhile: its topic was deleted
                continue
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            log.flushed = end
        if dirty:
            self._write(logs)

    def close(self, logs: Mapping[str, Log]) -> None:
        """Flushes and closes every log. Errors: `OSError`, after all are closed."""
        failed = None
        for log in logs.values():
            try:
                log.close()
            except OSError as error:
                failed = error
        self._write(logs)
        if failed is not None:
            raise failed

    def _write(self, logs: Mapping[str, Log]) -> None:
        self._bytes = {key: log.flushed for key, log in logs.items()}
        write_atomically(self._path, json.dumps(self._bytes).encode())
