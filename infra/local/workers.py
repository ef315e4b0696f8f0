"""How many processes share the partitions of `events`: two files of the data folder, the requested number
and the running one, which are there while the processes run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REQUESTED_FILE: Final = "flow-workers.asked"
RUNNING_FILE: Final = "flow-workers"


class Workers:
    """A supervisor writes `running`, an operator writes `requested`. Methods that write raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._requested_file = directory / REQUESTED_FILE
        self._running_file = directory / RUNNING_FILE

    def started(self, count: int) -> None:
        """A supervisor starts with `count` processes: an older request is void."""
        self._requested_file.unlink(missing_ok=True)
        self.publish(count)

    def publish(self, count: int) -> None:
        """A supervisor runs `count` processes now."""
        _write(self._running_file, count)

    def ended(self) -> None:
        """The supervisor ends: both files go."""
        for path in (self._requested_file, self._running_file):
            path.unlink(missing_ok=True)

    def request(self, count: int) -> None:
        """An operator wants `count` processes."""
        _write(self._requested_file, count)

    @property
    def requested(self) -> int:
        """0 without a request."""
        return _read(self._requested_file)

    @property
    def running(self) -> int:
        """0 where no supervisor runs."""
        return _read(self._running_file)


def _write(path: Path, count: int) -> None:
    """Writes the whole file or nothing."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(f"{count}\n")
    fresh.replace(path)


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no file, or a file without a number
        return 0
