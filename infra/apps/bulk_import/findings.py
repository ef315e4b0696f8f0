"""What an import finds: lines that are refused, files that end too early, notes of readers, warnings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.datasets.rows import Fault, Notes

MAX_KINDS: Final = 1000
"""Kinds of refused lines that are counted apart; a file may have a field of another name in every line."""
MAX_SHOWN_AT_ONCE: Final = 20
"""So many kinds are shown when they are met; the summary has the others."""
OTHER: Final = ("line", "other")
Show = Callable[[str], None]
"""Shows a sentence at once."""


class Origin(NamedTuple):
    """Where a line comes from."""

    path: Path
    line: int


@dataclass
class RefusedKind:
    """How many lines of a file were refused for one field and code, and the first of them."""

    count: int
    line: int


class Refusals:
    """Lines that are refused, by (file, field, code). The first of each kind is shown. Any thread may add."""

    def __init__(self, show: Show, stop: Callable[[], None] | None) -> None:
        """`stop`: called with the first line; None: the import goes on."""
        self.kinds: dict[tuple[Path, str, str], RefusedKind] = {}
        self._show, self._stop, self._lock = show, stop, threading.Lock()

    @property
    def count(self) -> int:
        return sum(kind.count for kind in self.kinds.values())

    def add(self, origin: Origin, field: str, code: str) -> None:
        """Counts a line."""
        with self._lock:
            if self._stop and self.kinds:
                return  # what was on its way when the first one stopped the import
            key = (origin.path, field, code)
            if key not in self.kinds and len(self.kinds) >= MAX_KINDS:
                key = (origin.path, *OTHER)
            if (kind := self.kinds.get(key)) is None:
                self.kinds[key] = RefusedKind(1, origin.line)
                if len(self.kinds) <= MAX_SHOWN_AT_ONCE:
                    self._show(f"{origin.path}, line {origin.line}: {field} {code}")
                elif len(self.kinds) == MAX_SHOWN_AT_ONCE + 1:
                    self._show(f"{origin.path}, line {origin.line}: more kinds are in the summary")
            else:
                kind.count += 1
                kind.line = min(kind.line, origin.line)
        if self._stop:
            self._stop()

    def most_common(self) -> list[tuple[tuple[Path, str, str], RefusedKind]]:
        return sorted(self.kinds.items(), key=lambda it: (-it[1].count, it[0][0], it[1].line))

    def plain(self) -> list[dict[str, Any]]:
        """For JSON, the most frequent first."""
        return [
            {
                "field": field,
                "code": code,
                "count": kind.count,
                "file": str(path),
                "line": kind.line,
            }
            for (path, field, code), kind in self.most_common()
        ]


class Caution(NamedTuple):
    """A warning: a stable code, a sentence, and how many lines it is about."""

    code: str
    text: str
    lines: int


class Findings:
    """All of one summary. `faults`: lines that could not be read; `rejected`: lines that the API refused;
    `unreadable`: files that could not be read to their end."""

    def __init__(self, show: Show, stop: Callable[[], None] | None = None) -> None:
        self.faults, self.rejected = Refusals(show, stop), Refusals(show, stop)
        self.unreadable: list[tuple[Path, str]] = []
        self.notes: list[tuple[Path, Notes]] = []
        self.warnings: list[Caution] = []
        self._show, self._stop = show, stop

    @property
    def any_refused(self) -> bool:
        return bool(self.faults.kinds or self.rejected.kinds or self.unreadable)

    def add_faults(self, path: Path, faults: list[Fault]) -> None:
        for fault in faults:
            self.faults.add(Origin(path, fault.line), fault.field, fault.code)

    def add_unreadable(self, path: Path, text: str) -> None:
        """A file that ends where it should not."""
        self.unreadable.append((path, text))
        self._show(text)
        if self._stop:
            self._stop()

    def warn(self, code: str, text: str, lines: int) -> None:
        self.warnings.append(Caution(code, text, lines))

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        cut = [
            {
                "field": "file",
                "code": "not_readable",
                "count": 1,
                "file": str(path),
                "line": None,
                "text": text,
            }
            for path, text in self.unreadable
        ]
        return {
            "rejected": self.rejected.plain(),
            "faults": [*self.faults.plain(), *cut],
            "warnings": [
                {"code": it.code, "text": it.text, "count": it.lines} for it in self.warnings
            ],
            "notes": [
                {"file": str(path), "code": code, "text": text, "count": notes.counts[code]}
                for path, notes in self.notes
                for code, text in notes.texts.items()
            ],
        }
