"""Likes of a person that an `unlike` takes back: rows of 8 B in one string. Log-ordered.

A row says when the like occurred (s), 31 bits of its item, and in their lowest place whether it made a fact.
A string that comes to twice `MAX_LIKES` rows keeps the newest of them by (at, bits).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from models.outcomes.open_slates import Account

MAX_LIKES: Final = 100
_ROW: Final = Struct("<II")
"""Item and whether it counted, at."""
SIZE: Final = _ROW.size
_ITEM_BITS: Final = 0xFFFF_FFFE
_FULL: Final = 2 * MAX_LIKES * SIZE
Row = tuple[int, int]
"""(bits, at)."""


def row(item: int, at: int, counted: bool) -> bytes:
    return _ROW.pack(item & _ITEM_BITS | counted, at)


def counted_rows(items: Iterable[int], at: Iterable[int]) -> Iterator[bytes]:
    """The rows of likes that counted; `at`: s."""
    return map(_ROW.pack, [item & _ITEM_BITS | 1 for item in items], at)


def uncounted(row: bytes) -> bytes:
    """The row of a like that counted, as of one that did not."""
    return bytes((row[0] & ~1,)) + row[1:]


def rows(stored: bytes) -> list[Row]:
    """The rows of a string, in its order. Errors: ValueError where it is none."""
    if len(stored) % SIZE:
        raise ValueError("a person's likes cannot be read: rebuild")
    return list(_ROW.iter_unpack(stored))


def hold(account: Account, new: bytes) -> bool:
    """Adds one as its `row`. Whether it was appended: else the oldest made room. In place."""
    account.likes += new
    if len(account.likes) < _FULL:
        return True
    account.likes = newest(account)
    return False


def newest(account: Account) -> bytes:
    """The newest `MAX_LIKES` rows, oldest first."""
    return _packed(sorted(rows(account.likes), key=_order)[-MAX_LIKES:])


def take(account: Account, item: int) -> tuple[int, bool] | None:
    """Removes the newest like of the item: when it was (s), and whether it made a fact. None where there is
    none. In place."""
    held = rows(account.likes)
    there = [it for it in held if it[0] & _ITEM_BITS == item & _ITEM_BITS]
    if not there:
        return None
    taken = max(there, key=_order)
    held.remove(taken)
    account.likes = _packed(held)
    return taken[1], bool(taken[0] & 1)


def bounded(moved: bytes, latest: int) -> bytes:
    """The rows, none of them later than `latest` (s)."""
    return _packed([(bits, min(at, latest)) for bits, at in rows(moved)])


def without(moved: bytes, copies: list[tuple[int, int]]) -> bytes:
    """The rows but one for each (item, at) of `copies`, which the person has already."""
    held = rows(moved)
    for item, at in copies:
        for each in held:
            if each[0] & _ITEM_BITS == item & _ITEM_BITS and each[1] == at:
                held.remove(each)
                break
    return _packed(held)


def _packed(held: list[Row]) -> bytes:
    return b"".join([_ROW.pack(*each) for each in held])


def _order(held: Row) -> Row:
    return held[1], held[0]
