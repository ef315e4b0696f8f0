"""The log file of a process that a supervisor runs: bounded, with the few before it as ``NAME.log.1`` and on.

The process itself renames the file and opens a new one, between two lines; so no line is lost or cut, whoever
else writes to its standard output.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Final

LOG_VARIABLE: Final = "FRESHET_LOG"
"""Variable by which a supervisor says which file standard output and error go to: ``bytes:file``."""
KEPT_FILES: Final = 3
"""Beside the one that is written."""
_OUTPUTS: Final = (1, 2)
"""Standard output and error."""


def rotate(file: Path) -> None:
    """Renames the file to ``NAME.1``, that to ``NAME.2``, and so on; the last one goes. Errors: OSError."""
    names = [file, *(file.with_name(f"{file.name}.{n}") for n in range(1, KEPT_FILES + 1))]
    for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
        with contextlib.suppress(FileNotFoundError):
            newer.replace(older)


class LogFile:
    """Standard output and error of this process, which are `file`; it is rotated once it has `max_bytes`."""

    def __init__(self, file: Path, max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self._lock = threading.Lock()

    def bound(self, record: object = None) -> bool:
        """Rotates the file where it is due; always true. To be called before a line is written, as a filter
        of its record: so the last line of an ended process is in the file itself."""
        # where it cannot be renamed, the file grows on
        with self._lock, contextlib.suppress(OSError):
            written = os.fstat(_OUTPUTS[-1])
            if written.st_size < self._max_bytes:
                return True
            with contextlib.suppress(FileNotFoundError):
                # a process that takes over has the same file, and may have been first
                if os.path.samestat(written, self._file.stat()):
                    rotate(self._file)
            self._reopen()
        return True

    def _reopen(self) -> None:
        with self._file.open("ab") as output:
            for descriptor in _OUTPUTS:
                os.dup2(output.fileno(), descriptor)


def given() -> LogFile | None:
    """The file that a supervisor has named; None without one. To be called once."""
    max_bytes, colon, file = os.environ.pop(LOG_VARIABLE, "").partition(":")
    return LogFile(Path(file), int(max_bytes)) if colon else None
