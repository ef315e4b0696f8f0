"""Lines of JSON objects, as chunks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from infra.datasets import columns
from infra.datasets.fields import Schema
from infra.datasets.lines import Stretch
from infra.datasets.options import ReadOptions
from infra.datasets.rows import Chunk
from infra.datasets.text import checked

_RECORD: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder()
Rewriter = Callable[[bytes], bytes]


def chunks(found: Iterator[Stretch], schema: Schema, options: ReadOptions) -> Iterator[Chunk]:
    """Each line as it is, or with its keys renamed and the constants put in: a line that is no object stays.

    Errors: `NotReadable` where the options contradict each other, and those of `found`.
    """
    rewrite = rewriter(schema, options)
    for stretch in found:
        lines, numbers, faults = checked(stretch)
        yield Chunk([rewrite(it) for it in lines] if rewrite else lines, numbers, faults)


def rewriter(schema: Schema, options: ReadOptions) -> Rewriter | None:
    """None: the options change nothing. Errors: those of `columns.check` and `columns.constants`."""
    columns.check(options, schema)
    constants = columns.constants(options, schema)
    if not options.columns and not constants:
        return None
    renamed = [(column, *_path(field)) for field, column in options.columns.items()]

    def rewrite(line: bytes) -> bytes:
        try:
            record = _RECORD.decode(line)
            values = [(outer, inner, record.pop(column, None)) for column, outer, inner in renamed]
            for outer, inner, raw in values:
                if raw is not None:
                    _put(record, outer, inner, raw)
            for field, value in constants.items():
                if isinstance(value, dict):
                    for inner, one in value.items():
                        _put(record, field, inner, _raw(one))
                else:
                    record[field] = _raw(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return line
        return _ENCODER.encode(record)

    return rewrite


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
