"""What commands share: finding the running system, and printing for people or for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar
from unicodedata import category

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from infra.home import Up
    from infra.settings import Settings

DEFAULT_DIR: Final = Path(".freshet")
_F = TypeVar("_F", bound=Callable[..., Any])


class NothingRuns(RuntimeError):
    """There is no system to talk to; the text says where was looked and what to do."""


class Found(NamedTuple):
    """A running system. `up` is None where it is known from the environment alone."""

    settings: Settings
    url: str
    up: Up | None


def system_option(command: _F) -> _F:
    """``--data-dir``, for commands that talk to a running system."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Folder of the running system.  [default: .freshet]",
    )(command)


def json_option(command: _F) -> _F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(
        command
    )


def find(data_dir: Path | None, environment: Mapping[str, str] = os.environ) -> Found:
    """The system of `data_dir`, else of .freshet, else the one that the environment names.

    Errors: `NothingRuns`, `BadSetting`.
    """
    from infra import home
    from infra.settings import from_environment

    where = data_dir or Path(environment.get("FRESHET_DATA_DIR", DEFAULT_DIR))
    if up := home.read(where):
        return Found(from_environment(up.environment), up.url, up)
    named = {"KAFKA_BOOTSTRAP", "REDIS_URL", "FRESHET_URL"} & environment.keys()
    if data_dir or not named:
        raise NothingRuns(
            f"nothing runs in {where}: start it with `freshet up`, or name a running one with"
            " --data-dir, or with KAFKA_BOOTSTRAP and REDIS_URL"
        )
    settings = from_environment(environment)
    url = environment.get("FRESHET_URL", f"http://{settings.host or '127.0.0.1'}:{settings.port}")
    return Found(settings, url.rstrip("/"), None)


def own_settings(data_dir: Path | None) -> Settings | None:
    """Of an environment that says all that a process needs, as where `freshet up` starts one: a port of its
    own for Prometheus, too. None where it does not, or a folder is named. Errors: `BadSetting`."""
    from infra.settings import from_environment

    return from_environment() if data_dir is None and "KAFKA_BOOTSTRAP" in os.environ else None


def print_json(value: object) -> None:
    """One line of JSON; bytes as text, or as hex where they are not text."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    # a pipe or a file has no width: let no table be cut there
    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    return Console(highlight=False, width=wide, stderr=stderr, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Columns whose name starts with ``#`` hold numbers and stand on the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for at, column in enumerate(columns):
        side: Literal["right", "left"] = "right" if column.startswith("#") else "left"
        name = column.lstrip("#")
        # in a narrow window: heads and names whole, the rest goes on in the next line
        least = max(map(len, name.split()), default=0)
        if at == 0:
            least = max([least, *(min(24, len(row[0])) for row in cells)])
        made.add_column(name, justify=side, overflow="fold", min_width=least)
    for row in cells:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def printable(text: str) -> str:
    """`text` without what would steer a terminal: a title comes from anybody.

    >>> printable("Alien\\x1b[2J\\n")
    'Alien\ufffd[2J\ufffd'
    """
    return "".join("\ufffd" if category(letter) == "Cc" else letter for letter in text)


def local(millis: int) -> str:
    """Local wall time, for people; with the date where it is not today's."""
    at = datetime.fromtimestamp(millis / 1000).astimezone()
    today = at.date() == datetime.now().astimezone().date()
    return at.strftime("%H:%M:%S.%f" if today else "%Y-%m-%d %H:%M:%S.%f")[:-3]


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return bytes(value).hex()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"cannot print {type(value).__name__} as JSON")
