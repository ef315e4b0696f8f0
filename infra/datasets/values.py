"""Objects that a strict decoder refused, with what is unambiguous repaired."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from infra.datasets import convert
from infra.datasets.convert import Converter
from infra.datasets.fields import EVENTS, ITEMS, Schema
from infra.datasets.rows import Notes
from schemas import times
from schemas.reject import Rejected

_TEXTS: Final = (convert.identifier, convert.text)
_ENCODER: Final = msgspec.json.Encoder()


def repair_event(body: bytes, notes: Notes) -> bytes:
    """The event that a strict decoder refused, with what is unambiguous repaired: numeric ids as texts, times
    in any of the forms of `convert.time`, numbers and booleans that are texts. What is repaired is noted.

    Errors: `schemas.reject.Rejected` with the field that cannot be repaired.

    >>> notes = Notes()
    >>> repair_event(b'{"user_id":1.0,"item_id":7,"occurred_at":1256677221}', notes)
    b'{"user_id":"1","item_id":"7","occurred_at":"2009-10-27T21:00:21.000Z"}'
    >>> notes.counts["repaired_item_id"]
    1
    """
    return _repair(body, EVENTS, notes)


def repair_item(body: bytes, notes: Notes) -> bytes:
    """As `repair_event`, for an item."""
    return _repair(body, ITEMS, notes)


def _repair(body: bytes, schema: Schema, notes: Notes) -> bytes:
    record = _decoded(body)
    for field, value in record.items():
        converter = schema.converters.get(field)
        if converter is None and isinstance(value, dict):  # a scale
            _repair_inner(value, field, schema, notes)
        if converter is None or value is None:
            continue
        if value.__class__ is str and _is_taken(value, field, converter, schema):
            continue
        found = converter(value, field, notes)
        if found != value or found.__class__ is not value.__class__:
            text = f"values of {field} that are of another type or form were read as the API takes them"
            notes.add(f"repaired_{field}", text)
            record[field] = found
    return _ENCODER.encode(record)


def _is_taken(value: str, field: str, converter: Converter, schema: Schema) -> bool:
    """Whether the API takes this text as it is, or refuses it with a better reason."""
    if converter is not convert.time:
        return converter in _TEXTS
    try:
        (times.parse_any_year if schema is ITEMS else times.moment)(value, field)
    except Rejected:
        return False
    return True


def _repair_inner(values: dict[str, Any], field: str, schema: Schema, notes: Notes) -> None:
    for inner, value in values.items():
        converter = schema.converters.get(f"{field}.{inner}")
        if converter and value is not None:
            values[inner] = converter(value, f"{field}.{inner}", notes)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Rejected("line", "malformed_json") from None
    if not isinstance(found, dict):
        raise Rejected("line", "wrong_type")
    return found
