"""Parquet, a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infra.datasets import tabular
from infra.datasets.columns import Columns, shown
from infra.datasets.delimited import CellRows
from infra.datasets.fields import Schema
from infra.datasets.files import Progress
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Chunk, Notes, NotReadable
from schemas.times import EPOCH

if TYPE_CHECKING:
    import pyarrow as pa

MAGIC: Final = b"PAR1"
BATCH_ROWS: Final = 4096
BUFFER_BYTES: Final = 1 << 20


def chunks(
    path: Path, schema: Schema, options: ReadOptions, notes: Notes, progress: Progress
) -> Iterator[Chunk]:
    """Every row of a file; its line is its number, from 1.

    Errors: `NotReadable`, see `Columns`; also for a taken column of a type that no field has, and for a file
    that is cut or damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            names = file.schema_arrow.names
            columns = Columns(names, schema, options, notes)
            _check_types(file.schema_arrow, columns)
            wanted = [names[it.place] for it in columns.taken]
            columns.taken = [it._replace(place=at) for at, it in enumerate(columns.taken)]
            size = path.stat().st_size
            yield from tabular.chunks(_rows(file, wanted, notes, progress, size), columns)
    except (pa.ArrowException, OSError, ValueError):  # ValueError: names that are no UTF-8, too
        raise _damaged() from None


def names(path: Path) -> list[str]:
    """Of its columns. Errors: `NotReadable` where it is cut or damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found: list[str] = parquet.read_schema(path).names
    except (pa.ArrowException, OSError, ValueError):
        raise _damaged() from None
    return found


def rows(path: Path, columns: list[str], notes: Notes) -> Iterator[CellRows]:
    """Those columns of every row, in that order, as `chunks` reads them. Errors: as `names`."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            yield from _rows(file, columns, notes, lambda count: None, path.stat().st_size)
    except (pa.ArrowException, OSError, ValueError):
        raise _damaged() from None


def _damaged() -> NotReadable:
    return NotReadable("is damaged or cut Parquet", remedy="fetch the file again")


def _check_types(schema: pa.Schema, columns: Columns) -> None:
    from pyarrow import types

    nested = []
    for taken in columns.taken:
        kind = schema.field(taken.place).type
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            kind = kind.value_type
        if types.is_nested(kind):
            nested.append(taken.field)
    if nested:
        raise NotReadable(
            f"has nested columns as {shown(nested)}",
            remedy="write each of their values as a column, as attributes.NAME",
        )


def _rows(
    file: Any, names: list[str], notes: Notes, progress: Progress, size: int
) -> Iterator[CellRows]:
    """The columns `names` of every row, in that order."""
    number, total, done = 1, max(1, file.metadata.num_rows), 0
    for batch in file.iter_batches(BATCH_ROWS, columns=names):
        places = [batch.schema.get_field_index(name) for name in names]
        cells = zip(*(_values(batch.column(at), notes) for at in places), strict=True)
        yield CellRows([*cells], [*range(number, number + batch.num_rows)], [])
        number += batch.num_rows
        progress(size * (number - 1) // total - done)
        done = size * (number - 1) // total


def _values(column: pa.Array, notes: Notes) -> list[Any]:
    """As Python has them: decimals and bytes as text, a NaN as nothing."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_timestamp(kind):
        if kind.tz is None:
            text = "times without an offset were read as UTC"
            notes.add("times_without_offset", text, len(column) - column.null_count)
        return [
            _moment(it)
            for it in column.cast(pa.timestamp("ms"), safe=False).view("int64").to_pylist()
        ]
    if types.is_decimal(kind):
        column = column.cast(pa.string())
    elif types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind):
        values = column.cast(pa.large_binary()).to_pylist()
        return [it if it is None else _text(it) for it in values]
    found: list[Any] = column.to_pylist()
    return [None if it != it else it for it in found] if types.is_floating(kind) else found


def _moment(millis: int | None) -> datetime | str | None:
    """Text where Python has no such time: its field refuses it."""
    try:
        return None if millis is None else EPOCH + timedelta(milliseconds=millis)
    except OverflowError:
        return "beyond"


def _text(value: bytes) -> str | bytes:
    """Bytes where they are no UTF-8: their field refuses them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
