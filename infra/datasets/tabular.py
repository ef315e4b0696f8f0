"""Rows of named columns, as chunks of rows of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.datasets.columns import Columns
from infra.datasets.delimited import CellRows
from infra.datasets.fields import Schema
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Chunk, Fault, Notes, NotReadable
from schemas.reject import Rejected

SAMPLE_ROWS: Final = 1000
"""So many say how the ids of a column are written."""


def with_header(
    found: Iterator[CellRows], schema: Schema, options: ReadOptions, notes: Notes
) -> Iterator[Chunk]:
    """The rows after the header. Errors: `NotReadable`, see `Columns`, and those of `found`."""
    names, rest = header(found)
    return chunks(rest, Columns(names, schema, options, notes))


def header(found: Iterator[CellRows]) -> tuple[list[str], Iterator[CellRows]]:
    """The names in the first row, without the blanks around them, and the rows after it.

    Errors: `NotReadable` where the first row is refused, and those of `found`.
    """
    for cells, lines, faults in found:
        first = min(faults, default=None)
        if first and not (lines and lines[0] < first.line):
            raise NotReadable(
                f"has no header that can be read (line {first.line:,}: {first.code})",
                remedy="put the names of the columns in the first line",
            )
        if cells:
            return [str(it).strip() for it in cells[0]], _after_first(
                CellRows(cells[1:], lines[1:], faults), found
            )
    raise NotReadable("is empty", remedy="check that it was written")


def chunks(found: Iterator[CellRows], columns: Columns) -> Iterator[Chunk]:
    """Every row; one that has a value that its field does not take is a fault of that field."""
    sample, rest = sampled(found)
    columns.recognise_fractions([row for part in sample for row in part.cells][:SAMPLE_ROWS])
    for part in chained(sample, rest):
        yield _chunk(part, columns)


def sampled(found: Iterator[CellRows]) -> tuple[list[CellRows], Iterator[CellRows]]:
    """What holds `SAMPLE_ROWS`, and all that follows; an error of it comes with that."""
    held: list[CellRows] = []
    failure = None
    try:
        for rows in found:
            held.append(rows)
            if sum(len(it.cells) for it in held) >= SAMPLE_ROWS:
                break
    except NotReadable as error:
        failure = error
    return held, _failing(found, failure)


def chained(sample: list[CellRows], rest: Iterator[CellRows]) -> Iterator[CellRows]:
    """Both in their order; the sample is not held longer than it must be."""
    while sample:
        yield sample.pop(0)
    yield from rest


def _failing(found: Iterator[CellRows], failure: NotReadable | None) -> Iterator[CellRows]:
    if failure:
        raise failure
    yield from found


def _after_first(first: CellRows, found: Iterator[CellRows]) -> Iterator[CellRows]:
    yield first
    yield from found


def _chunk(rows: CellRows, columns: Columns) -> Chunk:
    chunk = Chunk([], [], [*rows.faults])
    numbers = []
    for line, cells in zip(rows.lines, rows.cells, strict=True):
        try:
            chunk.bodies.append(columns.body(cells))
        except Rejected as error:
            chunk.faults.append(Fault(line, error.field, error.code))
        else:
            numbers.append(line)
    return chunk._replace(lines=numbers)
