"""Which columns of a file hold which fields of the API, and a row of them as the API takes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from infra.datasets import convert
from infra.datasets.convert import Converter
from infra.datasets.fields import EVENTS, ITEMS, Schema
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Notes, NotReadable
from schemas.reject import Rejected

MAX_COLUMNS: Final = 10_000
_MAX_SHOWN: Final = 10
_ENCODER: Final = msgspec.json.Encoder()
_NOTHING: Final = ("", r"\N")
"""The second is null in the exports of PostgreSQL and MySQL."""
_VALUE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|^[-+]?[0-9]+([.,][0-9]+)?$")
"""What is a time or a number, and names no column: a row of values is not shown."""


class Taken(NamedTuple):
    """The column at `place` holds `field`; `outer`: the object in it that has `inner`, "" where none has."""

    place: int
    field: str
    outer: str
    inner: str
    convert: Converter


class Columns:
    """The columns of a file that are taken."""

    def __init__(
        self, header: Sequence[str], schema: Schema, options: ReadOptions, notes: Notes
    ) -> None:
        """`header`: names in the order of the file; `options`: of `of_schema`. Errors: `NotReadable`, see
        `constants`; also where no column holds what every row needs."""
        if len(header) > MAX_COLUMNS:
            raise NotReadable(f"has {len(header):,} columns, and {MAX_COLUMNS:,} are the most")
        self.notes, self.constants = notes, constants(options, schema)
        self.taken = [*_taken(header, schema, options)]
        self._require(header, schema)
        places = {it.place for it in self.taken}
        rest = [name for place, name in enumerate(header) if place not in places]
        other = [name for name in rest if schema.converter(name) is None]
        if other:
            text = f"columns that are no field were not read: {shown(other)}"
            notes.add("columns_not_read", text, len(other))
        if replaced := [name for name in rest if schema.converter(name) is not None]:
            text = f"columns whose field is given otherwise were not read: {shown(replaced)}"
            notes.add("columns_replaced", text, len(replaced))

    def recognise_fractions(self, sample: Sequence[Sequence[Any]]) -> None:
        """Ids of a column are read without their fraction where all in the sample are written like 1.0."""
        for at, it in enumerate(self.taken):
            if it.convert is not convert.identifier:
                continue
            given = [row[it.place] for row in sample if row[it.place] not in (None, "")]
            if not given:
                self.taken[at] = it._replace(convert=convert.undecided_identifier())
            elif convert.are_whole_with_fraction(given):
                self.taken[at] = it._replace(convert=convert.whole_identifier)

    def body(self, row: Sequence[Any]) -> bytes:
        """The row as a JSON object. An empty value, or a null, is not said. Errors: `Rejected`."""
        record: dict[str, Any] = dict(self.constants)
        for place, field, outer, inner, converter in self.taken:
            value = row[place]
            if value is None or (value.__class__ is str and value.strip() in _NOTHING):
                continue
            if outer:
                record[outer] = {
                    **record.get(outer, {}),
                    inner: converter(value, field, self.notes),
                }
            else:
                record[field] = converter(value, field, self.notes)
        return _ENCODER.encode(record)

    def _require(self, header: Sequence[str], schema: Schema) -> None:
        given = {it.field for it in self.taken} | self.constants.keys()
        for fields in schema.required:
            if not given.intersection(fields):
                if not self.taken and any(map(_VALUE.search, header)):
                    raise NotReadable(
                        "has no names of columns in its first line",
                        remedy="put them there; a field that is no column comes from --set",
                    )
                raise NotReadable(
                    f"has no column {' or '.join(fields)}, only {shown(header)}",
                    remedy=f"name the one that holds it with --map {fields[0]}=COLUMN",
                )


def of_schema(options: ReadOptions, schema: Schema) -> ReadOptions:
    """What the options say about rows of this schema: those of an import are for items and for events.

    Errors: `NotReadable` where they name a field that neither has, and as `_check`.
    """
    for field in [*options.columns, *options.constants]:
        if all(it.converter(field) is None for it in (EVENTS, ITEMS)):
            fields = ", ".join(schema.converters)
            raise NotReadable(f"has no field {shown([field])}", remedy=f"the fields are {fields}")
    found = options._replace(
        columns={key: it for key, it in options.columns.items() if schema.converter(key)},
        constants={key: it for key, it in options.constants.items() if schema.converter(key)},
    )
    _check(found)
    return found


def _check(options: ReadOptions) -> None:
    """Errors: `NotReadable` where the options name a field twice, or a column twice."""
    for field in options.columns.keys() & options.constants.keys():
        raise NotReadable(f"cannot have {field} of a column and of a constant", remedy="name one")
    for column, count in Counter(options.columns.values()).items():
        if count > 1:
            fields = " and ".join(it for it, name in options.columns.items() if name == column)
            name = shown([column])
            raise NotReadable(f"cannot have {fields} of one column {name}", remedy="name two")


def constants(options: ReadOptions, schema: Schema) -> dict[str, Any]:
    """The fields that are the same in every row, as JSON has them. Errors: `NotReadable`."""
    found: dict[str, Any] = {}
    for field, value in options.constants.items():
        converter, (outer, _, inner) = schema.converter(field), field.partition(".")
        assert converter is not None, "it was checked"
        try:
            made = converter(value, field, Notes())
        except Rejected as error:
            raise NotReadable(f"cannot have that constant as {field} ({error.code})") from None
        if inner:
            found.setdefault(outer, {})[inner] = made
        else:
            found[field] = made
    return found


def shown(names: Iterable[str]) -> str:
    """Some names for a sentence: at most ten, printable, none too long."""
    listed = [*names]
    clean = ["".join(c if c.isprintable() else "?" for c in it[:64]) for it in listed[:_MAX_SHOWN]]
    clean = [it or '""' for it in clean]
    more = f" and {len(listed) - _MAX_SHOWN:,} more" if len(listed) > _MAX_SHOWN else ""
    return ", ".join(clean) + more


def _taken(header: Sequence[str], schema: Schema, options: ReadOptions) -> Iterable[Taken]:
    fields = _fields(header, schema, options)
    places = {name: place for place, name in enumerate(header)}
    counts = Counter(header)
    for column, field in fields.items():
        if column not in places:
            raise NotReadable(f"has no column {shown([column])}, only {shown(header)}")
        if counts[column] > 1:
            raise NotReadable(f"has {counts[column]} columns {shown([column])}", remedy="name one")
        converter = schema.converter(field)
        assert converter is not None, "it was checked"
        outer, _, inner = field.partition(".")
        yield Taken(places[column], field, outer if inner else "", inner, converter)


def _fields(header: Sequence[str], schema: Schema, options: ReadOptions) -> Mapping[str, str]:
    """Column -> field: as the options say; a column of a field's name has it, unless the options gave it."""
    said = {column: field for field, column in options.columns.items()}
    given = {*options.columns, *options.constants}
    own = {
        name: name
        for name in header
        if name not in said and name not in given and schema.converter(name) is not None
    }
    return {**own, **said}
