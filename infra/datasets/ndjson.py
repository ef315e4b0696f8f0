"""Lines of JSON objects, as chunks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from infra.datasets import columns
from infra.datasets.fields import Schema
from infra.datasets.lines import Stretch
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Chunk, Notes
from infra.datasets.text import checked

_RECORD: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()


def chunks(
    found: Iterator[Stretch], schema: Schema, options: ReadOptions, notes: Notes
) -> Iterator[Chunk]:
    """Each line as it is, or with its keys renamed and the constants put in: a line that is no object stays.

    Errors: those of `Rewriter` and of `found`.
    """
    rewriter = Rewriter(schema, options)
    for stretch in found:
        lines, numbers, faults = checked(stretch)
        if len(faults) > len(stretch.faults):
            text = "lines that are no UTF-8 were refused: name another encoding with --encoding"
            notes.add("not_utf8", text, len(faults) - len(stretch.faults))
        if rewriter.changes:
            lines = [rewriter.rewrite(it) for it in lines]
        yield Chunk(lines, numbers, faults)
    for column in rewriter.missing:
        notes.add("keys_not_found", f"no line has the key {columns.shown([column])}")


class Rewriter:
    """Renames the keys of objects and puts constants in."""

    def __init__(self, schema: Schema, options: ReadOptions) -> None:
        """`options`: of `columns.of_schema`. Errors: those of `columns.constants`."""
        self.constants = columns.constants(options, schema)
        self.renamed = [(column, *_path(field)) for field, column in options.columns.items()]
        self.missing = dict.fromkeys(options.columns.values())
        """Keys that no object had so far."""

    @property
    def changes(self) -> bool:
        return bool(self.renamed or self.constants)

    def rewrite(self, line: bytes) -> bytes:
        """The object of a line, rewritten; the line itself where it holds none."""
        try:
            record = _RECORD.decode(line)
            self._rename(record)
            for field, value in self.constants.items():
                if isinstance(value, dict):
                    for inner, one in value.items():
                        _put(record, field, inner, _raw(one))
                else:
                    record[field] = _raw(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line
        return _ENCODER.encode(record)

    def _rename(self, record: dict[str, msgspec.Raw]) -> None:
        values = [(column, record.pop(column, None)) for column, _, _ in self.renamed]
        for (column, value), (_, outer, inner) in zip(values, self.renamed, strict=True):
            if value is not None:
                _put(record, outer, inner, value)
                self.missing.pop(column, None)


def _path(field: str) -> tuple[str, str]:
    outer, _, inner = field.partition(".")
    return outer, inner


def _put(record: dict[str, msgspec.Raw], outer: str, inner: str, raw: msgspec.Raw) -> None:
    if inner:
        held = _RECORD.decode(record[outer]) if record.get(outer, b"null") != b"null" else {}
        raw = _raw({**held, inner: raw})
    record[outer] = raw


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_ENCODER.encode(value))
