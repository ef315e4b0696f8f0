"""When a partition is paused: where nothing but records that no fold can take has come for long.

The count of them in a row and the fence are stored together. What an operator accepts is an offset: up to
there nothing is counted.
"""

from __future__ import annotations


def paused(streak: int, offset: int, accepted: int, limit: int) -> bool:
    """`streak`: how many came in a row before offset `offset`.

    >>> paused(10, 50, 0, 10), paused(9, 50, 0, 10), paused(10, 50, 50, 10)
    (True, False, False)
    """
    return streak >= limit and offset > accepted


def number(stored: bytes | None) -> int:
    """A stored count or offset; 0 where there is none. Errors: ValueError."""
    return int(stored or 0)
