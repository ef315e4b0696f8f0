"""Rates as settings write them: ``rate/burst`` a second, or ``off``."""

from __future__ import annotations

import re
from math import ceil
from typing import Final, NamedTuple

OFF: Final = "off"
MAX_RATE: Final = 1e9
_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(?:/([0-9]{1,9}))?")
HOUR_SECONDS: Final = 3600


class Rate(NamedTuple):
    """So many `per_second`, and `burst` at once."""

    per_second: float
    burst: int


def rate(text: str) -> Rate | None:
    """The rate that a setting says; None for ``off``. Without a burst it is two seconds of it. Errors:
    ValueError.

    >>> rate("100/500"), rate("2.5"), rate("off")
    (Rate(per_second=100.0, burst=500), Rate(per_second=2.5, burst=5), None)
    """
    if text == OFF:
        return None
    found = _RATE.fullmatch(text)
    if found is None or not float(found[1]):
        raise ValueError("no rate")
    burst = ceil(2 * float(found[1])) if found[2] is None else int(found[2])
    if not burst:
        raise ValueError("no burst")
    return Rate(float(found[1]), burst)


def hourly(text: str) -> Rate | None:
    """The rate of so many an hour, all of which may come at once; None for ``off``. Errors: ValueError.

    >>> hourly("7200"), hourly("off")
    (Rate(per_second=2.0, burst=7200), None)
    """
    if text == OFF:
        return None
    if not re.fullmatch("[0-9]{1,12}", text) or not int(text):
        raise ValueError("no quota")
    return Rate(int(text) / HOUR_SECONDS, int(text))
