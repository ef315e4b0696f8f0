"""`freshet import`: catalogues and history from files, sent to the API as any other item and event."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from infra.cli.options import json_option, print_json, system_option
from infra.datasets.options import ReadOptions
from infra.terminal.text import console
from schemas.errors import FreshetError

if TYPE_CHECKING:
    from infra.apps.bulk_import.outcome import Outcome
    from infra.apps.bulk_import.program import Bar, Progress

FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)
DEFAULT_SOURCE: Final = "default"
_BETWEEN_PAIRS: Final = re.compile(",(?=[^,=]*=)")
"""A comma before anything else belongs to the name of a column."""
_SOURCE: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


@click.command("import")
@click.option("--items", type=FILE, multiple=True, help="File of items; repeatable.")
@click.option("--events", type=FILE, multiple=True, help="File of events; repeatable.")
@click.option(
    "--movielens",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of MovieLens files.",
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN,...",
    help="Column that holds a field of the API; repeatable.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Value of a field in every row; repeatable.",
)
@click.option("--encoding", help="Encoding of the text.  [default: by content]")
@click.option(
    "--source",
    default=DEFAULT_SOURCE,
    show_default=True,
    metavar="NAME",
    callback=lambda context, option, value: _source(value),
    help="Under this name the import remembers what it sent.",
)
@click.option("--again", is_flag=True, help="Send also what an earlier import sent.")
@click.option("--strict", is_flag=True, help="Stop at the first line that is refused.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; send and write nothing.")
@click.option(
    "--connections",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    help="Connections to the API.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=500,
    show_default=True,
    help="Lines in one request.",
)
@click.option(
    "--url", envvar="FRESHET_URL", help="Address of the API.  [default: the running system's]"
)
@system_option
@json_option
def import_command(
    items: tuple[Path, ...],
    events: tuple[Path, ...],
    movielens: Path | None,
    columns: tuple[str, ...],
    constants: tuple[str, ...],
    encoding: str | None,
    source: str,
    again: bool,
    strict: bool,
    dry_run: bool,
    connections: int,
    batch: int,
    url: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Load history: items first, then events, which count at the time they occurred.

    Files are NDJSON, CSV, TSV or Parquet, plain, gzip or zstd. A line that is refused costs that line: it is
    named, the rest goes on, and the exit status is 1.

    Only what is new is sent: the data folder remembers each event that was accepted, so tonight's full dump
    adds what came since yesterday's. Events should be in order of time. Events on items that nobody put yet
    wait for them, up to a limit.

    \b
    freshet import --movielens ml-latest-small
    freshet import --items items.ndjson --events events.ndjson.gz
    freshet import --events orders.csv --map user_id=customer,item_id=sku --set action=purchase
    freshet import --events events.ndjson --dry-run
    """
    from infra.apps.bulk_import.asked import Asked

    if not (movielens or items or events):
        raise click.UsageError("name what to load with --movielens, --items or --events")
    if not (items or events) and (columns or constants or encoding):
        raise click.UsageError(
            "--map, --set and --encoding are for files of --items and --events: leave them out"
        )
    if url and not url.startswith(("http://", "https://")):
        raise click.UsageError("--url takes an address like http://host:8080")
    asked = Asked(
        items,
        events,
        movielens,
        ReadOptions(_pairs("--map", columns, _BETWEEN_PAIRS), _pairs("--set", constants), encoding),
        source,
        again=again,
        strict=strict,
        connections=connections,
        batch=batch,
        url=url,
        data_dir=data_dir,
    )
    outcomes: dict[str, Outcome] = {}
    failure: FreshetError | KeyboardInterrupt | None = None
    with _bars(as_json) as bar:
        try:
            _program(dry_run)(asked, outcomes, bar, _show, os.environ)
        except (FreshetError, KeyboardInterrupt) as error:
            if not outcomes:
                raise
            failure = error
    _print(outcomes, as_json)
    if failure:
        raise failure
    if any(outcome.findings.any_refused for outcome in outcomes.values()):
        raise click.exceptions.Exit(1)


def _program(dry_run: bool) -> Callable[..., None]:
    if dry_run:  # which imports the edge
        from infra.apps.bulk_import.dry_run import rehearse

        return rehearse
    from infra.apps.bulk_import.run import run

    return run


def _source(value: str) -> str:
    if not _SOURCE.fullmatch(value):
        raise click.BadParameter(
            "it takes up to 64 letters, digits, '.', '_' and '-', and begins with a letter or a digit:"
            " give it another name",
            param_hint="'--source'",
        )
    return value


def _pairs(
    option: str, texts: Sequence[str], separator: re.Pattern[str] | None = None
) -> dict[str, str]:
    """FIELD=VALUE texts as a dictionary. Errors: `click.UsageError`."""
    from infra.datasets.fields import EVENTS, ITEMS

    found: dict[str, str] = {}
    for text in texts:
        for pair in separator.split(text) if separator else [text]:
            name, equals, value = pair.partition("=")
            name = name.strip()
            if not (name and equals and value.strip()):
                raise click.UsageError(
                    f"{option} takes FIELD=VALUE pairs, like {option} {_EXAMPLES[option]}"
                )
            if not (EVENTS.converter(name) or ITEMS.converter(name)):
                fields = ", ".join(dict.fromkeys([*EVENTS.converters, *ITEMS.converters]))
                raise click.UsageError(f"{option} names no field {name}: the fields are {fields}")
            if name in found:
                raise click.UsageError(f"{option} names the field {name} twice: give it once")
            found[name] = value.strip()
    return found


_EXAMPLES: Final = {"--map": "item_id=sku", "--set": "action=view"}


def _show(sentence: str) -> None:
    click.echo(sentence, err=True)


@contextmanager
def _bars(quiet: bool) -> Iterator[Bar]:
    """A maker of progress bars over the bytes of a file, on stderr; of none, for machines and pipes."""
    on = console(stderr=True)
    if quiet or not on.is_terminal:
        yield lambda name, total: lambda count: None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=on) as shown:

        def bar(name: str, total: int) -> Progress:
            task = shown.add_task(name, total=total)
            return lambda count: shown.advance(task, count)

        yield bar


def _print(outcomes: dict[str, Outcome], as_json: bool) -> None:
    if as_json:
        print_json({name: outcome.plain() for name, outcome in outcomes.items()})
        return
    for name, outcome in outcomes.items():
        for line in outcome.text(name):
            click.echo(line)
