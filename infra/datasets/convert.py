"""One value as a file holds it, text or typed, as the API takes it.

Every converter takes a value that is not None, the name of its field, and the notes of its file. Errors:
`Rejected` with that field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

from infra.datasets.rows import Notes
from schemas.alphabet import Millis
from schemas.reject import Rejected
from schemas.times import DAY_MS, EPOCH

Converter = Callable[[Any, str, Notes], Any]
TRUE: Final = frozenset(("true", "1", "yes"))
FALSE: Final = frozenset(("false", "0", "no"))
SEPARATOR: Final = "|"
"""Of the elements of a list in a cell."""
_UNITS: Final = ((1e11, 1000, 1), (1e14, 1, 1), (1e17, 1, 1000), (1e20, 1, 1_000_000))
"""(bound, ms, per so many): below the first bound lie seconds, for another 3,000 years; then come
milliseconds, microseconds, nanoseconds."""
_WHOLE_WITH_FRACTION: Final = re.compile(r"-?[0-9]+\.0+")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|(19|20)[0-9]{6}")
_ZONES: Final = "CTZz"
_REAL: Final = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
"""As JSON writes one that a double holds whole: with a leading zero it is a code, not a number."""


def identifier(value: Any, field: str, notes: Notes) -> str:
    """Numbers as people write them: 1.0 is `1`.

    >>> identifier(" a7 ", "item_id", Notes()), identifier(7.0, "item_id", Notes())
    ('a7', '7')
    """
    return text(value, field, notes).strip()


def whole_identifier(value: Any, field: str, notes: Notes) -> str:
    """Of a column whose ids are all written like ``1.0``.

    >>> whole_identifier("12.0", "item_id", Notes()), whole_identifier("1.5", "item_id", Notes())
    ('12', '1.5')
    """
    found = identifier(value, field, notes)
    if found == value and not is_whole_with_fraction(found):
        return found
    notes.add("ids_with_fraction", "ids that are all written like 1.0 were read as 1")
    return found.partition(".")[0] if is_whole_with_fraction(found) else found


def undecided_identifier() -> Converter:
    """Of a column that begins with blanks: the first value says how its ids are written."""
    found: list[Converter] = []

    def decide(value: Any, field: str, notes: Notes) -> str:
        if not found:
            found.append(whole_identifier if is_whole_with_fraction(value) else identifier)
        return str(found[0](value, field, notes))

    return decide


def is_whole_with_fraction(value: object) -> bool:
    """Whether it is written like ``1.0``."""
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, str) and _WHOLE_WITH_FRACTION.fullmatch(value.strip()) is not None


def are_whole_with_fraction(values: Iterable[object]) -> bool:
    """Whether there is a value, and each that is not blank is written like ``1.0``."""
    given = [it for it in values if it is not None and it != ""]
    return bool(given) and all(map(is_whole_with_fraction, given))


def text(value: Any, field: str, notes: Notes) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Rejected(field, "wrong_type")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def time(value: Any, field: str, notes: Notes) -> str:
    """RFC 3339 in UTC with milliseconds, of a number (see `_UNITS`) or of ISO 8601 with ``T`` or a
    blank, with an offset or (noted) without; a date alone is its midnight UTC.

    >>> time("2009-10-27 21:00:21", "occurred_at", Notes()), time(1256677221000, "occurred_at", Notes())
    ('2009-10-27T21:00:21.000Z', '2009-10-27T21:00:21.000Z')
    """
    return _rendered(_datetime(value, field, notes))


def moment(value: Any, field: str, notes: Notes) -> Millis:
    """As `time`, in milliseconds."""
    return _millis(_datetime(value, field, notes))


def _datetime(value: Any, field: str, notes: Notes) -> datetime:
    """In UTC."""
    try:
        if isinstance(value, str):
            value = value.strip()
            if _DAY.fullmatch(value):
                return datetime.fromisoformat(value).replace(tzinfo=UTC)
            if not (found := _REAL.fullmatch(value)):
                return _of_text(value, notes)
            value = float(value) if found[1] or found[2] else int(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        return EPOCH + timedelta(milliseconds=_of_number(value))
    except (ValueError, OverflowError, TypeError):
        raise Rejected(field, "not_a_time") from None


def number(value: Any, field: str, notes: Notes) -> float | int:
    """Finite. A text of one is one; a whole one stays whole."""
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str):
            if "_" in value:  # as Python writes a number, and nobody else
                raise ValueError
            value = int(value) if value.strip().lstrip("-").isdecimal() else float(value)
        if isinstance(value, float):
            return int(value) if value.is_integer() and abs(value) < 2**53 else _finite(value)
        return int(value)
    except (ValueError, TypeError, OverflowError):
        raise Rejected(field, "wrong_type") from None


def integer(value: Any, field: str, notes: Notes) -> int:
    """A whole number, also where it is written ``3.0``."""
    found = number(value, field, notes)
    if isinstance(found, float):
        raise Rejected(field, "wrong_type")
    return found


def boolean(value: Any, field: str, notes: Notes) -> bool:
    """true, false, 1, 0, yes, no, in any case."""
    if isinstance(value, str | int | float) and not (isinstance(value, float) and value % 1):
        word = value.strip().lower() if isinstance(value, str) else str(int(value))
        if word in TRUE or word in FALSE:
            return word in TRUE
    raise Rejected(field, "wrong_type")


def texts(value: Any, field: str, notes: Notes) -> list[str]:
    """A list, a JSON array, or texts between `SEPARATOR`.

    >>> texts("Crime| Drama", "categories", Notes())
    ['Crime', 'Drama']
    """
    elements = _elements(value, field)
    return [text(it, field, notes).strip() for it in elements if it is not None and it != ""]


def numbers(value: Any, field: str, notes: Notes) -> list[float | int]:
    """A list of numbers, written as `texts` are."""
    return [number(it, field, notes) for it in _elements(value, field)]


def scalar(value: Any, field: str, notes: Notes) -> str | int | float | bool:
    """The value of an attribute. A cell that is written as JSON writes a number, true or false is that."""
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return float(value) if "." in value else int(value)
        return value == "true" if value in ("true", "false") else value
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return number(value, field, notes)
    raise Rejected(field, "wrong_type")


def mapping(value: Any, field: str, notes: Notes) -> dict[str, Any]:
    """Of the context, as an object or its JSON."""
    found = _json(value, field) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise Rejected(field, "wrong_type")
    return found


def attributes(value: Any, field: str, notes: Notes) -> dict[str, Any]:
    """As `mapping`; one that is a list or an object costs itself, as in the API.

    >>> attributes({"colour": "red", "sizes": [1, 2]}, "attributes", Notes())
    {'colour': 'red'}
    """
    given = mapping(value, field, notes)
    found = {name: it for name, it in given.items() if not isinstance(it, list | dict)}
    if len(found) < len(given):
        text = "attributes that are lists or objects were left out"
        notes.add("attributes_left_out", text, len(given) - len(found))
    return found


def _elements(value: Any, field: str) -> list[Any]:
    if isinstance(value, str):
        is_json = value.lstrip()[:1] == "["
        value = _json(value, field) if is_json else value.split(SEPARATOR)
    if not isinstance(value, list):
        raise Rejected(field, "wrong_type")
    return value


def _json(value: str, field: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        raise Rejected(field, "wrong_type") from None


def _of_text(value: str, notes: Notes) -> datetime:
    if value[-1:] in _ZONES:
        for zone in (" UTC", " GMT", "UTC", " Z", "z"):
            value = value.removesuffix(zone) + "Z" if value.endswith(zone) else value
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        notes.add("times_without_offset", "times without an offset were read as UTC")
        return found.replace(tzinfo=UTC)
    return found if found.tzinfo is UTC else found.astimezone(UTC)


def _rendered(at: datetime) -> str:
    """As `schemas.times.render`, of a time that is no repeated one."""
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


def _millis(at: datetime) -> Millis:
    since = at - EPOCH
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000


def _of_number(value: float) -> Millis:
    if isinstance(value, bool):
        raise ValueError
    for bound, ms, per in _UNITS:
        if abs(value) < bound:
            return value * ms // per if isinstance(value, int) else round(value * ms / per)
    raise ValueError


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError
    return value
