"""Whether a process's clock agrees with Redis's, which all processes of an installation share (law 14)."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, Final

MAX_SKEW_SECONDS: Final = 60.0
"""A clock further off is a fault: what its process writes would be of another time."""
POLL_SECONDS: Final = 10.0
REMEDY: Final = "set the clock of this machine (with NTP or chrony)"


def skew(reply: Any, before: float, after: float) -> float:
    """By how many s this process's clock is ahead of Redis's. `reply`: of TIME, from a cluster by node;
    `before`, `after`: this clock around the request, Unix time in s, of which the closer one counts.

    >>> skew((1000, 500_000), 1000.0, 1001.0), skew((1000, 0), 1070.0, 1071.0)
    (0.0, 70.0)
    """
    replies = reply.values() if isinstance(reply, Mapping) else [reply]
    at = median(seconds + micros / 1e6 for seconds, micros in replies)
    return before - at if at < before else after - at if at > after else 0.0


def is_off(seconds: float | None) -> bool:
    """Whether a skew is a fault; None, that Redis did not answer, is none."""
    return seconds is not None and abs(seconds) > MAX_SKEW_SECONDS


def sentence(seconds: float) -> str:
    """
    >>> sentence(-7200.4)
    "the clock of this process is 7,200 s behind Redis's: set the clock of this machine (with NTP or chrony)"
    """
    way = "ahead of" if seconds > 0 else "behind"
    return f"the clock of this process is {abs(seconds):,.0f} s {way} Redis's: {REMEDY}"
