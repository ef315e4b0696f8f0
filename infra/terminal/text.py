"""Text for people: tables, and times and titles as a terminal may show them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def console(stderr: bool = False) -> Console:
    """A console on stdout, or on stderr; 200 columns wide where that is no terminal."""
    from rich.console import Console

    # a pipe or a file has no width: no table is cut there
    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    return Console(highlight=False, width=wide, stderr=stderr, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table; a column whose name starts with ``#`` holds numbers and is aligned right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for at, column in enumerate(columns):
        side: Literal["right", "left"] = "right" if column.startswith("#") else "left"
        name = column.lstrip("#")
        # in a narrow window heads and names stay whole, other cells wrap
        min_width = max(map(len, name.split()), default=0)
        if at == 0:
            min_width = max([min_width, *(min(24, len(row[0])) for row in cells)])
        shown.add_column(name, justify=side, overflow="fold", min_width=min_width)
    for row in cells:
        shown.add_row(*(Text(printable(cell)) for cell in row))
    return shown


def printable(text: str) -> str:
    """`text` without control characters, which would steer a terminal: any caller may have written it.

    >>> printable("Alien\\x1b[2J\\n")
    'Alien\ufffd[2J\ufffd'
    """
    return "".join("\ufffd" if category(letter) == "Cc" else letter for letter in text)


def local(millis: int) -> str:
    """Local wall time, for people; with the date where it is not today's."""
    at = datetime.fromtimestamp(millis / 1000).astimezone()
    today = at.date() == datetime.now().astimezone().date()
    return at.strftime("%H:%M:%S.%f" if today else "%Y-%m-%d %H:%M:%S.%f")[:-3]
