"""Times as clients write them: RFC 3339 with an offset, on the wire in UTC with milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from schemas.alphabet import Millis
from schemas.reject import Rejected

HOUR_MS: Final[Millis] = 3_600_000
DAY_MS: Final[Millis] = 24 * HOUR_MS
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Final[Millis] = 631_152_000_000
"""1990-01-01T00:00:00Z."""
LATEST: Final[Millis] = 4_102_444_800_000
"""2100-01-01T00:00:00Z."""
YEAR_1: Final[Millis] = -62_135_596_800_000
"""0001-01-01T00:00:00Z."""
YEAR_9999: Final[Millis] = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def parse(text: str, field: str) -> Millis:
    """`moment`, in range. Errors: `Rejected` as `moment`'s and `check_range`'s.

    >>> parse("2024-01-01T01:00:00.0019+01:00", "at")
    1704067200001
    """
    return check_range(moment(text, field), field)


def moment(text: str, field: str) -> Millis:
    """The moment that `text` names, of whatever year, cut to whole milliseconds: a clock that is to be
    corrected may be wrong by decades. Errors: `Rejected` with ``not_a_time`` (also without an offset).
    """
    try:
        parsed = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise Rejected(field, "not_a_time") from None
    if parsed.tzinfo is None:
        raise Rejected(field, "not_a_time")
    since = parsed - EPOCH
    return since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000


def parse_any_year(text: str, field: str) -> Millis:
    """The moment that `text` names, of the years 1 to 9999 in UTC; a date alone is its midnight in UTC.
    Errors: `Rejected` ``not_a_time``, or ``out_of_range`` beyond these years.

    >>> render(parse_any_year("1939-08-15", "at")), render(parse_any_year("9999-12-31", "at"))
    ('1939-08-15T00:00:00.000Z', '9999-12-31T00:00:00.000Z')
    """
    at = moment(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text, field)
    if not YEAR_1 <= at <= YEAR_9999:
        raise Rejected(field, "out_of_range")
    return at


def check_range(at: Millis, field: str) -> Millis:
    """`at`, if it is between `EARLIEST` and `LATEST`. Errors: `Rejected` ``out_of_range``."""
    if not EARLIEST <= at <= LATEST:
        raise Rejected(field, "out_of_range")
    return at


def render(at: Millis) -> str:
    """RFC 3339, UTC, milliseconds, for `YEAR_1` to `YEAR_9999`.

    >>> render(1704067200001), render(-1)
    ('2024-01-01T00:00:00.001Z', '1969-12-31T23:59:59.999Z')
    """
    return f"{_second(at // 1000)}.{at % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(since: int) -> str:
    """Cached: most times rendered are of the last few seconds."""
    # not strftime, which writes the year 1 as "1", nor fromtimestamp, which some systems end at 1970
    return (EPOCH + timedelta(seconds=since)).isoformat()[:19]


def iso(millis: int | None) -> str:
    """As `render`; "" for no time.

    >>> iso(1700000000123)
    '2023-11-14T22:13:20.123Z'
    """
    return render(millis) if millis else ""


def _schema(**more: str) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema={"type": "string", "format": "date-time", **more})


MomentText = Annotated[str, _schema()]
"""What `moment` reads."""
TimeText = Annotated[str, _schema(formatMinimum=iso(EARLIEST), formatMaximum=iso(LATEST))]
"""What `parse` reads."""
DayText = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={
            "anyOf": [
                {"type": "string", "format": "date"},
                {
                    "type": "string",
                    "format": "date-time",
                    "formatMinimum": render(YEAR_1),
                    "formatMaximum": render(YEAR_9999),
                },
            ]
        }
    ),
]
"""What `parse_any_year` reads."""
