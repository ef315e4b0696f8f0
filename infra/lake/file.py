"""One data object, read back: row groups by their statistics, rows in the order of the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.lake.errors import LakeError, LakeTorn, LakeVersion
from infra.lake.store import Store
from schemas import lake
from schemas.lake import BY_TOPIC, ManifestEntry

OFFSETS_PER_STEP: Final = 65_536
"""Offsets that are sorted at once."""
RECORD_COLUMNS: Final = ("offset", "index", "timestamp", "key", "value")
LOG_ORDER: Final = (("offset", "ascending"), ("index", "ascending"))


class Rows(NamedTuple):
    """The records of a file below offset `next` that earlier `Rows` did not hold, in log order."""

    next: int
    table: pa.Table


class RowFilter(NamedTuple):
    """Which rows are wanted: of one person, of since <= record time < until (ms), or both; None is any."""

    person: str | None = None
    since: int | None = None
    until: int | None = None


class _Group:
    """A row group sorted by offset and index, and how many of its rows were yielded."""

    def __init__(self, table: pa.Table) -> None:
        self._table = _in_log_order(table)
        self._offsets: NDArray[np.int64] = self._table["offset"].to_numpy()
        self._yielded = 0

    def before(self, bound: int) -> pa.Table:
        """The rows below offset `bound` that were not yielded yet."""
        start = self._yielded
        self._yielded = int(np.searchsorted(self._offsets, bound))
        return self._table.slice(start, self._yielded - start)

    @property
    def empty(self) -> bool:
        return self._yielded == len(self._offsets)


class File:
    """A data object. Errors of every method: `LakeTorn`, `LakeVersion`, each naming the object."""

    def __init__(self, store: Store, entry: ManifestEntry, source: pa.NativeFile) -> None:
        self.entry = entry
        size = source.size()
        if size != entry.bytes:
            raise torn(entry, f"it has {size} bytes, its entry says {entry.bytes}")
        with self._parquet():
            self._file = pq.ParquetFile(
                source, page_checksum_verification=True, pre_buffer=not store.local
            )
            self._metadata = self._file.metadata
            self._schema = self._file.schema_arrow
        self._check()
        self._leaf = {
            self._metadata.schema.column(n).path: n for n in range(self._metadata.num_columns)
        }
        self.groups: int = self._metadata.num_row_groups

    def _check(self) -> None:
        metadata = self._schema.metadata or {}
        version = metadata.get(b"version", b"").decode(errors="replace")
        if version != str(lake.VERSION):
            raise LakeVersion(
                f"{self.entry.name} has version {version[:20] or 'none'}, this Freshet reads version"
                f" {lake.VERSION}"
            )
        if self._metadata.num_rows != self.entry.rows:
            raise torn(
                self.entry,
                f"it has {self._metadata.num_rows} rows, its entry says {self.entry.rows}",
            )

    @property
    def headers(self) -> bool:
        """Whether some record of the file has headers."""
        return (self._schema.metadata or {}).get(b"headers") == b"1"

    def bounds(self, group: int, column: str) -> tuple[Any, Any] | None:
        """Least and greatest value of a column in a row group, from Parquet's statistics; None where all
        values are null."""
        found = self._metadata.row_group(group).column(self._leaf[column]).statistics
        return (found.min_raw, found.max_raw) if found is not None and found.has_min_max else None

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """These columns of these row groups; a column that the file lacks is null, and `index` 0."""
        with self._parquet():
            found = self._file.read_row_groups(list(groups), columns=list(columns))
        schema = BY_TOPIC[self.entry.name.split("/")[1]].schema
        for name in set(columns).difference(
            found.column_names
        ):  # the file is older than the column
            field = schema.field(name)
            cells = (
                pa.nulls(len(found), field.type)
                if field.nullable
                else pa.array(np.zeros(len(found), np.int32))
            )
            found = found.append_column(field, cells)
        return found if found.column_names == list(columns) else found.select(list(columns))

    def ordered(
        self, start: int, end: int, columns: Sequence[str] = RECORD_COLUMNS
    ) -> Iterator[Rows]:
        """The records at offsets start <= offset < end, in log order.

        In memory at once are some `OFFSETS_PER_STEP` offsets, and of a compacted file the row groups that
        reach into them (an hour's).
        """
        bounds = {n: self.bounds(n, "offset") for n in range(self.groups)}
        waiting = sorted(
            (it[0], n) for n, it in bounds.items() if it and it[0] < end and it[1] >= start
        )
        held: list[_Group] = []
        at = start
        while at < end:
            lead = at if held else max(at, waiting[0][0]) if waiting else end
            bound = lead + OFFSETS_PER_STEP
            opened = [n for first, n in waiting if first < bound]
            waiting = waiting[len(opened) :]
            held += [_Group(self.read([n], columns)) for n in opened]
            bound = min(bound, end)
            yield Rows(bound, _since(_merged(held, bound), at))
            held = [group for group in held if not group.empty]
            at = bound

    def select(self, wanted: RowFilter, columns: Sequence[str]) -> tuple[pa.Table, int]:
        """The rows that are wanted, in log order, and how many row groups were read for them."""
        groups = [n for n in range(self.groups) if self._may_hold(n, wanted)]
        needed = dict.fromkeys([*columns, "offset", "index", "timestamp"])
        if wanted.person is not None:
            needed["person"] = None
        table = self.read(groups, list(needed))
        held = self._holds(table, wanted)
        table = (table if held is None else table.filter(held)).sort_by(list(LOG_ORDER))
        return table.select(list(columns)), len(groups)

    def _may_hold(self, group: int, wanted: RowFilter) -> bool:
        if wanted.since is not None or wanted.until is not None:
            least, most = self.bounds(group, "timestamp") or (0, 0)
            if wanted.since is not None and most < wanted.since:
                return False
            if wanted.until is not None and least >= wanted.until:
                return False
        if wanted.person is None:
            return True
        people, name = self.bounds(group, "person"), wanted.person.encode()
        return people is not None and people[0] <= name <= people[1]

    @staticmethod
    def _holds(table: pa.Table, wanted: RowFilter) -> pa.ChunkedArray | None:
        conditions = []
        at = table["timestamp"].cast(pa.int64())
        if wanted.since is not None:
            conditions.append(pc.greater_equal(at, wanted.since))
        if wanted.until is not None:
            conditions.append(pc.less(at, wanted.until))
        if wanted.person is not None:
            conditions.append(pc.equal(table["person"], wanted.person))
        held = None
        for condition in conditions:
            held = condition if held is None else pc.and_(held, condition)
        return held

    @contextmanager
    def _parquet(self) -> Iterator[None]:
        try:
            yield
        except LakeError:
            raise
        except (pa.ArrowException, OSError) as error:
            raise torn(
                self.entry, f"it is no whole Parquet file ({type(error).__name__})"
            ) from None


def torn(entry: ManifestEntry, why: str) -> LakeTorn:
    """The error of an object that is not what its entry says, with its remedy."""
    return LakeTorn(
        f"{entry.name} is torn: {why}; restore it, or remove its entry and all after it from the manifest"
        " and delete the partition's fence: the flow lake writes them again, as far as the log holds them"
    )


def _merged(groups: Sequence[_Group], bound: int) -> pa.Table:
    tables = [group.before(bound) for group in groups]
    if len(tables) == 1:
        return tables[0]
    if not tables:
        return pa.table({"offset": pa.array([], pa.int64())})
    return _in_log_order(pa.concat_tables(tables).combine_chunks())


def _in_log_order(table: pa.Table) -> pa.Table:
    offsets: NDArray[np.int64] = table["offset"].to_numpy()
    if (offsets[1:] > offsets[:-1]).all():
        return table
    # of one offset there are several rows: those of a frame
    order = np.lexsort((table["index"].to_numpy(), offsets))
    return table.take(pa.array(order))


def _since(table: pa.Table, start: int) -> pa.Table:
    """`table` without the rows below offset `start`: a row group may begin before it."""
    first = int(np.searchsorted(table["offset"].to_numpy(), start))
    return table.slice(first) if first else table
