"""Stored records carry a version, and this code reads the version before it too.

Each record has one table of upgrades, beside its VERSION: version n - 1 -> the function that upgrades a
record of it to version n. A change that no function can bridge has no entry: the log is folded again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from schemas.errors import FreshetError

T = TypeVar("T")
Upgrades = Mapping[int, Callable[[T], T]]


class OtherVersion(FreshetError, ValueError):
    """A record of a version that this code does not read; the text names it."""


def readable(version: int, upgrades: Upgrades[T]) -> tuple[int, ...]:
    """The versions that code of `version` reads, ascending.

    >>> readable(3, {1: bytes, 2: bytes})
    (2, 3)
    """
    return (version - 1, version) if version - 1 in upgrades else (version,)


def upgrade(
    name: str,
    stored: int,
    version: int,
    upgrades: Upgrades[T],
    record: T,
    error: type[FreshetError] = OtherVersion,
) -> T:
    """`record`, of version `stored`, as one of `version`. Errors: `error`, which names `name`.

    >>> upgrade("a word", 1, 2, {1: str.upper}, "hello")
    'HELLO'
    """
    if stored == version:
        return record
    if stored not in readable(version, upgrades):
        reads = " and ".join(map(str, readable(version, upgrades)))
        raise error(
            f"{name} is of version {stored}, this Freshet reads version {reads}",
            remedy="fold the log again (freshet rebuild --from beginning)",
        )
    return upgrades[stored](record)
