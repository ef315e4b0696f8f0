"""Times as clients write them: RFC 3339 with an offset, on the wire in UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

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


def check_range(at: Millis, field: str) -> Millis:
    """`at`, if it is between `EARLIEST` and `LATEST`. Errors: `Rejected` ``out_of_range``."""
    if not EARLIEST <= at <= LATEST:
        raise Rejected(field, "out_of_range")
    return at


def render(at: Millis) -> str:
    """RFC 3339, UTC, milliseconds.

    >>> render(1704067200001)
    '2024-01-01T00:00:00.001Z'
    """
    return f"{_second(at // 1000)}.{at % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(since: int) -> str:
    """Cached: most times rendered are of the last few seconds."""
    return datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def iso(millis: int | None) -> str:
    """RFC 3339, UTC, milliseconds; "" for no time.

    >>> iso(1700000000123)
    '2023-11-14T22:13:20.123Z'
    """
    if not millis:
        return ""
    text = datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
