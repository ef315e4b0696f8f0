"""What commands share: their options, and printing for people or for machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from infra.local.find import DEFAULT_DIR

_F = TypeVar("_F", bound=Callable[..., Any])


def folder_option(
    help: str, default: Path = DEFAULT_DIR, envvar: str | None = "FRESHET_DATA_DIR"
) -> Callable[[_F], _F]:
    """``--data-dir``, for commands that write to that folder."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        default=default,
        envvar=envvar,
        show_default=True,
        help=help,
    )


def port_option(name: str, help: str) -> Callable[[_F], _F]:
    """A port to listen on; None by default."""
    return click.option(name, type=click.IntRange(1, 65535), help=help)


def workers_option(name: str, default: int, help: str) -> Callable[[_F], _F]:
    """A number of processes of one kind, 1 to 64."""
    return click.option(
        name, type=click.IntRange(1, 64), default=default, show_default=True, help=help
    )


def every_option(*names: str, help: str) -> Callable[[_F], _F]:
    """An interval in s, at least 1; None by default."""
    return click.option(*names, type=click.FloatRange(1), metavar="SECONDS", help=help)


def partitions_option(help: str) -> Callable[[_F], _F]:
    """``--partition``, repeatable, as the parameter `partitions`."""
    return click.option(
        "--partition", "partitions", type=click.IntRange(0), multiple=True, help=help
    )


def system_option(command: _F) -> _F:
    """``--data-dir``, for commands that talk to a running system."""
    return click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        help="Folder of the running system.  [default: .freshet]",
    )(command)


def json_option(command: _F) -> _F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(value: object) -> None:
    """One line of JSON; bytes as text, or as hex where they are not text."""
    click.echo(json.dumps(value, default=_plain, ensure_ascii=False))


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
