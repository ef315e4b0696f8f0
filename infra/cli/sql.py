"""`freshet sql`: DuckDB over the lake, a view per table, read-only."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.console import console, json_option, print_json, system_option, table
from infra.cli.lake import settings_of

if TYPE_CHECKING:
    import duckdb

    from infra.lake.reader import Lake
    from infra.settings import Settings
    from schemas.lake import Entry, Table

DISTINCT: Final = "events_distinct"
PROMPT: Final = "freshet> "


class BadQuery(ValueError):
    """A query that cannot be answered; the text is DuckDB's sentence."""


@click.command("sql")
@click.argument("query", required=False)
@click.option(
    "--rows", type=click.IntRange(1), default=1000, show_default=True, help="Most rows to print."
)
@system_option
@json_option
def sql_command(query: str | None, rows: int, data_dir: Path | None, as_json: bool) -> None:
    """Ask the lake: answer QUERY, or at a terminal whatever is typed.

    A view per topic (events, items, control, slates, experiments, dead_letters), each with the record as
    written ("offset", "timestamp", key, value, headers), its day and partition, and typed columns. The view
    events_distinct is events without repeats and without what does not decode, by the rule of the fold.

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


class Tables:
    """The lake's tables as they stood when this was made. Errors of every method: `LakeError`."""

    def __init__(self, settings: Settings) -> None:
        import duckdb

        from infra.lake.reader import Lake
        from schemas.lake import TABLES

        self._settings, self._lake = settings, Lake.of(settings)
        self._db: duckdb.DuckDBPyConnection = duckdb.connect(":memory:")
        self._files: list[Entry] = []
        for it in TABLES:
            files = _files(self._lake, it)
            self._files += files
            self._db.register(it.view, _dataset(self._lake, it, files))
        # from here on the connection sees these tables alone: no file, no network, no extension
        self._db.execute("SET python_enable_replacements = false")
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")

    def ask(self, query: str) -> tuple[list[str], Iterator[Sequence[Any]]]:
        """Names of columns, and rows. Errors: `BadQuery`."""
        import duckdb

        if DISTINCT in query.lower():
            self._make_distinct()
        try:
            answer = self._db.execute(query)
            names = [column[0] for column in answer.description or ()]
            return names, self._rows(answer)
        except duckdb.Error as error:
            raise self._told(error) from None

    def _rows(self, answer: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
        import duckdb

        while True:
            try:
                rows = answer.fetchmany(1000)
            except (duckdb.Error, ValueError, OverflowError) as error:
                raise self._told(error) from None
            if not rows:
                return
            yield from rows

    def _told(self, error: Exception) -> Exception:
        """A torn file's own sentence, where that is the reason; else the first line of DuckDB's."""
        import pyarrow as pa

        from infra.lake.compact import check

        text = str(error)
        if any(word in text for word in ("Parquet", "get_next", "arrow", pa.ArrowInvalid.__name__)):
            for entry in self._files:
                check(self._lake.store, entry)
        return BadQuery(text.strip().partition("\n")[0])

    def _make_distinct(self) -> None:
        import pyarrow as pa

        if self._has(DISTINCT):
            return
        places = list(self._dropped())
        partitions = pa.array([partition for partition, _ in places], pa.int32())
        offsets = pa.array([offset for _, offset in places], pa.int64())
        dropped = pa.table({"partition": partitions, "offset": offsets})
        self._db.register("events_dropped", dropped)
        self._db.execute(
            f"CREATE VIEW {DISTINCT} AS SELECT * FROM events"
            ' ANTI JOIN events_dropped USING (partition, "offset")'
        )

    def _dropped(self) -> Iterator[tuple[int, int]]:
        """Places of the records that the fold would not take."""
        from flows.offline.view import Distinct
        from schemas.topics import EVENTS

        for partition in self._lake.partitions(EVENTS.name):
            view = Distinct(int(self._settings.dedupe_hours * 3_600_000))
            start, end = self._lake.bounds(EVENTS.name, partition)
            for batch in self._lake.read(EVENTS.name, partition, start, end):
                kept = {offset for offset, _, _ in view.take(batch).records}
                yield from ((partition, it) for it in batch.offsets if it not in kept)

    def _has(self, view: str) -> bool:
        found = self._db.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [view])
        return found.fetchone() is not None


def _files(lake: Lake, table: Table) -> list[Entry]:
    found = []
    for partition in lake.partitions(table.topic):
        manifest = lake.manifest(table.topic, partition)
        found += manifest.entries(manifest.chain())
    return found


def _dataset(lake: Lake, table: Table, files: Sequence[Entry]) -> Any:
    """Exactly these files: DuckDB takes the columns and row groups that a query needs."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    places = pa.schema([("day", pa.string()), ("partition", pa.int32())])
    schema = pa.schema([*places, *table.schema])
    if not files:
        return schema.empty_table()
    return ds.dataset(
        [lake.store.path(it.name) for it in files],
        schema=schema,
        format="parquet",
        filesystem=lake.store.fs,
        partitioning=ds.partitioning(places, flavor="hive"),
        partition_base_dir=lake.store.path(f"data/{table.topic}"),
    )


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
    """Arrow keys and lines before, where this Python has them."""
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
        click.echo(f"the first {most:,} rows (--rows)", err=True)


def _plain(cell: Any) -> Any:
    """As JSON takes it; times in UTC."""
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
