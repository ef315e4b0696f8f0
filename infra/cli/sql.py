"""`freshet sql`: DuckDB over the lake, a view per table, read-only."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from flows.offline.sql import BadQuery, Tables
from infra.cli.options import json_option, print_json, system_option
from infra.local.find import settings_of
from infra.terminal.text import console, table

PROMPT: Final = "freshet> "


@click.command("sql")
@click.argument("query", required=False)
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Maximum number of rows to print.",
)
@system_option
@json_option
def sql_command(query: str | None, rows: int, data_dir: Path | None, as_json: bool) -> None:
    """Query the lake: run QUERY, or the lines of standard input.

    Each topic is a view (events, items, control, slates, experiments, dead_letters, audit) of the record as
    written ("offset", "timestamp", key, value, headers), its day and partition, and typed columns. A record
    of a frame is a row: partition, "offset" and "index" name it. The view events_distinct has the events
    that a fold counts: without duplicates, and without records that do not decode.

    \b
    freshet sql "SELECT action, count(*) FROM events_distinct GROUP BY action"
    freshet sql "SELECT * FROM events WHERE day = '2026-11-23' AND person = '...'" --json
    freshet sql "DESCRIBE slates"
    """
    tables = Tables(settings_of(data_dir))
    if query is not None:
        _print(*tables.ask(query), rows, as_json)
    elif sys.stdin.isatty():
        _interact(tables, rows, as_json)
    else:
        _print(*tables.ask(sys.stdin.read()), rows, as_json)


def _interact(tables: Tables, rows: int, as_json: bool) -> None:
    with_history()
    while True:
        try:
            line = input(PROMPT).strip().rstrip(";")
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        try:
            if line:
                _print(*tables.ask(line), rows, as_json)
        except BadQuery as error:
            click.echo(str(error), err=True)


def with_history() -> None:
    """Arrow keys and earlier lines, where this Python has `readline`."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401


def _print(names: list[str], rows: Iterator[Sequence[Any]], most: int, as_json: bool) -> None:
    shown = [[_plain(cell) for cell in row] for row in itertools.islice(rows, most)]
    more = next(rows, None) is not None
    if as_json:
        for row in shown:
            print_json(dict(zip(names, row, strict=True)))
    else:
        console().print(table("", names, shown))
    if more:
        click.echo(f"only the first {most:,} rows are shown: --rows takes another number", err=True)


def _plain(cell: Any) -> Any:
    """A value that JSON can hold; times in UTC."""
    if isinstance(cell, datetime):
        utc = cell.replace(tzinfo=UTC) if cell.tzinfo is None else cell.astimezone(UTC)
        return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return cell.hex()
    if isinstance(cell, Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, dict):
        return {name: _plain(it) for name, it in cell.items()}
    if isinstance(cell, list | tuple):
        return [_plain(it) for it in cell]
    if cell is None or isinstance(cell, str | int | float | bool):
        return cell
    return cell.isoformat() if isinstance(cell, date) else str(cell)
