"""When a partition is paused: after too many records in a row that no fold can take.

Their count and the fence are stored together. An operator accepts such records up to an offset, and none
before it is counted.
"""

from __future__ import annotations


def paused(streak: int, offset: int, accepted: int, limit: int) -> bool:
    """Whether the partition is paused. `streak`: how many such records, in a row, precede `offset`.

    >>> paused(10, 50, 0, 10), paused(9, 50, 0, 10), paused(10, 50, 50, 10)
    (True, False, False)
    """
    return streak >= limit and offset > accepted


def number(stored: bytes | None) -> int:
    """A stored count or offset; 0 where there is none. Errors: ValueError."""
    return int(stored or 0)
