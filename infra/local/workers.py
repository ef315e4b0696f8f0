"""How many processes share the partitions of `events`: asked for and told in the data folder, while
they run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ASKED: Final = "flow-workers.asked"
RUN: Final = "flow-workers"


class Workers:
    """`runs` is what a supervisor says, `asked` what an operator does. Errors of what writes: OSError."""

    def __init__(self, directory: Path) -> None:
        self._asked, self._run = directory / ASKED, directory / RUN

    def started(self, count: int) -> None:
        """Said by a supervisor, of itself: what was asked of one before it is over."""
        self._asked.unlink(missing_ok=True)
        self.tell(count)

    def tell(self, count: int) -> None:
        _write(self._run, count)

    def ended(self) -> None:
        for path in (self._asked, self._run):
            path.unlink(missing_ok=True)

    def ask(self, count: int) -> None:
        _write(self._asked, count)

    @property
    def asked(self) -> int:
        """0 where nothing was asked."""
        return _read(self._asked)

    @property
    def runs(self) -> int:
        """0 where no supervisor runs."""
        return _read(self._run)


def _write(path: Path, count: int) -> None:
    """Whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(f"{count}\n")
    fresh.replace(path)


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # nothing was said, or nothing that says anything
        return 0
