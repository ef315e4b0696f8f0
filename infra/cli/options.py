"""What commands share: finding the running system, and printing for people or for machines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


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
