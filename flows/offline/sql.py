"""The lake in SQL: DuckDB, a view per table, read-only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import FreshetError

if TYPE_CHECKING:
    import duckdb

    from infra.lake.reader import Lake
    from infra.settings import Settings
    from schemas.lake import ManifestEntry, Table


DISTINCT_VIEW: Final = "events_distinct"


class BadQuery(FreshetError):
    """A query that DuckDB refuses; the text is the first line of its error."""


class Tables:
    """The lake's tables at the time of construction. Errors of every method: `LakeError`."""

    def __init__(self, settings: Settings) -> None:
        import duckdb

        from infra.lake.reader import Lake
        from schemas.lake import TABLES
        from schemas.topics import BY_NAME

        self._settings, self._lake = settings, Lake.of(settings)
        self._db: duckdb.DuckDBPyConnection = duckdb.connect(":memory:")
        self._files: list[ManifestEntry] = []
        for it in TABLES:
            files = _files(self._lake, it)
            self._files += files
            dataset = _dataset(self._lake, it, files)
            if BY_NAME[it.topic].framed:  # files of before frames lack the index
                self._db.register(f"{it.view}_files", dataset)
                self._db.execute(
                    f'CREATE VIEW {it.view} AS SELECT * REPLACE (coalesce("index", 0) AS "index")'
                    f" FROM {it.view}_files"
                )
            else:
                self._db.register(it.view, dataset)
        # from here on the connection reads these tables only: no file, no network, no extension
        self._db.execute("SET python_enable_replacements = false")
        self._db.execute("SET enable_external_access = false")
        self._db.execute("SET lock_configuration = true")

    def ask(self, query: str) -> tuple[list[str], Iterator[Sequence[Any]]]:
        """The names of the columns, and the rows. Errors: `BadQuery`."""
        import duckdb

        if DISTINCT_VIEW in query.lower():
            self._make_distinct()
        try:
            answer = self._db.execute(query)
            names = [column[0] for column in answer.description or ()]
            return names, self._rows(answer)
        except duckdb.Error as error:
            raise self._cause(error) from None

    def _rows(self, answer: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
        import duckdb

        while True:
            try:
                rows = answer.fetchmany(1000)
            except (duckdb.Error, ValueError, OverflowError) as error:
                raise self._cause(error) from None
            if not rows:
                return
            yield from rows

    def _cause(self, error: Exception) -> Exception:
        """`BadQuery` with the error's first line. Errors: `LakeError`, where a torn file is the reason."""
        import pyarrow as pa

        from infra.lake.compact import check

        text = str(error)
        if any(word in text for word in ("Parquet", "get_next", "arrow", pa.ArrowInvalid.__name__)):
            for entry in self._files:
                check(self._lake.store, entry)
        return BadQuery(text.strip().partition("\n")[0])

    def _make_distinct(self) -> None:
        import pyarrow as pa

        if self._has(DISTINCT_VIEW):
            return
        places = list(self._dropped())
        columns = (("partition", pa.int32()), ("offset", pa.int64()), ("index", pa.int32()))
        arrays = {
            name: pa.array([it[n] for it in places], kind) for n, (name, kind) in enumerate(columns)
        }
        dropped = pa.table(arrays)
        self._db.register("events_dropped", dropped)
        self._db.execute(
            f"CREATE VIEW {DISTINCT_VIEW} AS SELECT * FROM events"
            ' ANTI JOIN events_dropped USING (partition, "offset", "index")'
        )

    def _dropped(self) -> Iterator[tuple[int, int, int]]:
        """(partition, offset, index) of the records that the fold drops."""
        from flows.offline.view import Distinct, places
        from schemas.topics import EVENTS

        for partition in self._lake.partitions(EVENTS.name):
            view = Distinct(self._settings.dedupe_ms)
            start, end = self._lake.bounds(EVENTS.name, partition)
            for batch in self._lake.read(EVENTS.name, partition, start, end):
                kept = view.places(batch)
                yield from ((partition, *it) for it in places(batch) if it not in kept)

    def _has(self, view: str) -> bool:
        found = self._db.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [view])
        return found.fetchone() is not None


def _files(lake: Lake, table: Table) -> list[ManifestEntry]:
    found = []
    for partition in lake.partitions(table.topic):
        manifest = lake.manifest(table.topic, partition)
        found += manifest.entries(manifest.chain())
    return found


def _dataset(lake: Lake, table: Table, files: Sequence[ManifestEntry]) -> Any:
    """A dataset of exactly these files: DuckDB reads only the columns and row groups that a query needs."""
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
