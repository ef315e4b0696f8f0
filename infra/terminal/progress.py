"""Progress of long work: a bar at a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS: Final = 10.0
"""Between two plain lines about one piece of work."""
Advance = Callable[[int], None]
"""Called with the number of units done since the last call."""


class Reporter:
    """Prints on `console` what happens."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, text: object = "") -> None:
        self.console.print(text)

    def head(self, name: str, text: str) -> None:
        """Prints the line that opens a section."""
        from rich.text import Text

        self.console.print(Text.assemble((name, "bold"), ": ", text))

    @contextmanager
    def work(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Shows the progress of `total` units (None: unknown); yields the function that counts units done."""
        began, done = time.monotonic(), 0

        def count(units: int) -> None:
            nonlocal done
            done += units

        shown = self._bar(name, total) if self.console.is_terminal else self._lines(name, total)
        with shown as advance:

            def both(units: int) -> None:
                count(units)
                advance(units)

            yield both
        seconds = time.monotonic() - began
        rate = f", {done / seconds:,.0f}/s" if done and seconds else ""
        number = f" {done:,}" if done else ""
        self(f"[dim]·[/dim] {name}:{number} done in {seconds:.1f} s{rate}")

    @contextmanager
    def _bar(self, name: str, total: int | None) -> Iterator[Advance]:
        from rich import progress

        columns = (
            progress.TextColumn("  {task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(name, total=total)
            yield lambda units: bars.advance(task, units)

    @contextmanager
    def _lines(self, name: str, total: int | None) -> Iterator[Advance]:
        printed_at, done = time.monotonic(), 0
        of = f" of {total:,}" if total else ""

        def advance(units: int) -> None:
            nonlocal printed_at, done
            done += units
            if time.monotonic() - printed_at > LINE_SECONDS:
                printed_at = time.monotonic()
                self(f"  {name}: {done:,}{of}")

        yield advance


class SilentReporter(Reporter):
    """Prints nothing: for work that is one step of another command."""

    def __call__(self, text: object = "") -> None:
        pass

    def head(self, name: str, text: str) -> None:
        pass

    @contextmanager
    def work(self, name: str, total: int | None = None) -> Iterator[Advance]:
        yield lambda units: None
