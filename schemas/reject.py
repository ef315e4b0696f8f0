"""Bad input as data: which field, and why; never the value."""

from __future__ import annotations

import re

import msgspec

from schemas.errors import FreshetError


class Rejected(FreshetError):
    """One field of one input is unacceptable.

    `field` is a path in the caller's own terms (``events[3].action``); `code` is a stable
    snake_case word that clients may switch on. `takes`: what is taken instead, in a sentence. The offending
    value is never kept.
    """

    def __init__(self, field: str, code: str, takes: str = "") -> None:
        super().__init__(f"{field}: {code}")
        self.field = field
        self.code = code
        self.takes = takes


_CODES = (
    (re.compile(r"unknown field"), "unknown_field"),
    (re.compile(r"missing required field"), "required"),
    (re.compile(r"Expected `[^`]+`, got"), "wrong_type"),
    (re.compile(r"Invalid enum value"), "unknown_value"),
    (re.compile(r"matching regex"), "malformed"),
    (
        re.compile(r"(out of range|length|>=|<=|Expected `(int|float|str|array|object)` )"),
        "out_of_range",
    ),
    (re.compile(r"[Ii]nvalid (RFC3339|datetime|timezone)"), "not_a_time"),
)
_PATH = re.compile(r"at `(?:key in )?\$\.?([^`]*)`\s*$")
_NAME = re.compile(r"field `([^`]{0,64})")


def from_validation(error: msgspec.ValidationError, prefix: str = "") -> Rejected:
    """The `Rejected` for a msgspec error: its path and a code, without the text that quotes values."""
    text = str(error)
    path = _PATH.search(text)
    field = path.group(1) if path else ""
    code = next((code for pattern, code in _CODES if pattern.search(text)), "invalid")
    named = _NAME.search(text)
    if named and code in ("unknown_field", "required"):
        name = re.sub(r"[^\w.\-]", "?", named.group(1))
        field = f"{field}.{name}" if field else name
    if prefix:
        field = f"{prefix}.{field}" if field and not field.startswith("[") else prefix + field
    return Rejected(field or "body", code)
