"""What a person can take back: their newest purchases. Log-ordered.

They are rows of 38 B in one string, in the order in which they came: most of them are only ever added, so a
new one is packed and appended, and none is read for it. A string that comes to twice `MAX_REVERSIBLES` rows
keeps the newest of them, of one second those that came last. The few slots that they converted lie beside
them, in `Account.conversions`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from itertools import repeat
from struct import Struct
from typing import Final

from msgspec.structs import replace

from models.outcomes.open_slates import Account, Converted, Reversible

MAX_REVERSIBLES: Final = 100
_ROW: Final = Struct("<QIIBBIIQI")
"""Item, identity, at, action, flags, pending, currency, amount, quantity."""
SIZE: Final = _ROW.size
_FULL: Final = 2 * MAX_REVERSIBLES * SIZE
_HEAD: Final = Struct("<QII22x")
"""Item, identity, at."""
_NAME: Final = Struct("<QI")
"""Item, identity: no two rows have the same."""
_COUNTED, _CONVERTED, _TAKEN_BACK = 1, 2, 4
pack: Final = _ROW.pack
_FLAGS_AT: Final = Struct("<QIIB").size


def pending_rows(
    items: Iterable[int],
    identities: Iterable[int],
    at: Iterable[int],
    action: int,
    received: Iterable[int],
    prices: Iterable[Iterable[int]],
) -> Iterator[bytes]:
    """The rows of purchases that counted, name no slate and found no slot. `at`, `received`: s; `prices`:
    currencies, amounts, quantities."""
    flags = repeat(_COUNTED)
    return map(pack, items, identities, at, repeat(action), flags, received, *prices)


def uncounted(row: bytes) -> bytes:
    """The row of a purchase that counted, as of one that did not."""
    flags = row[_FLAGS_AT] & ~_COUNTED
    return row[:_FLAGS_AT] + bytes((flags,)) + row[_FLAGS_AT + 1 :]


def row(new: Reversible) -> bytes:
    flags = (
        _COUNTED * new.counted
        | _CONVERTED * (new.conversion is not None)
        | _TAKEN_BACK * new.taken_back
    )
    return pack(
        new.item, new.identity, new.at, new.action, flags, new.pending,
        new.currency, new.amount, new.quantity,
    )  # fmt: skip


def hold(account: Account, new: Reversible) -> None:
    """Adds a purchase; the oldest may make room. In place."""
    _add_conversion(account, new)
    rows = account.reversibles + row(new)
    if len(rows) >= _FULL:
        ordered = _ordered(rows)
        _forget_conversions(account, b"".join(ordered[:-MAX_REVERSIBLES]))
        rows = b"".join(ordered[-MAX_REVERSIBLES:])
    load(account, rows)


def append(account: Account, new: bytes, at: int, unique_since: int) -> bool:
    """Adds one without a conversion as its `row`, where none makes room for it and none has its identity and
    item. Whether it did. `at`: as in the row; `unique_since` (s): none of those that occurred from then on
    has them. In place."""
    rows = account.reversibles
    if not rows:
        account.reversibles, account.oldest = new, at
        return True
    if len(rows) + SIZE >= _FULL:
        return False
    if account.oldest < unique_since and new[: _NAME.size] in rows:
        return False
    account.reversibles = rows + new
    if at < account.oldest:
        account.oldest = at
    return True


def load(account: Account, rows: bytes) -> None:
    """Puts stored rows into the account. In place. Errors: ValueError where they are none."""
    if len(rows) % SIZE:
        raise ValueError("a person's purchases cannot be read: rebuild")
    account.reversibles = rows
    account.oldest = min((at for _, _, at in _HEAD.iter_unpack(rows)), default=0) if rows else 0


def every(account: Account) -> Iterator[Reversible]:
    """All, in the order of the string."""
    for at in range(0, len(account.reversibles), SIZE):
        yield _read(account, at)


def newest(account: Account) -> tuple[Reversible, ...]:
    """The newest `MAX_REVERSIBLES`, oldest first."""
    return tuple(sorted(every(account), key=_at)[-MAX_REVERSIBLES:])


def find(account: Account, identity: int, item: int) -> Reversible | None:
    """The one of this identity, which more than one item may have: lines of one order. `store` takes a change
    of it."""
    at = _place(account.reversibles, _NAME.pack(item, identity))
    return _read(account, at) if at >= 0 else None


def store(account: Account, changed: Reversible) -> None:
    """Puts a changed one, with its conversion, in its place. In place."""
    at = _place(account.reversibles, _NAME.pack(changed.item, changed.identity))
    if at < 0:
        return
    rows = account.reversibles
    _forget_conversions(account, rows[at : at + SIZE])
    _add_conversion(account, changed)
    account.reversibles = rows[:at] + row(changed) + rows[at + SIZE :]


def take(account: Account, item: int) -> Reversible | None:
    """Takes back the newest of this item, and gives what it was; None where there is none."""
    held = [_read(account, at) for at in _places(account.reversibles, item.to_bytes(8, "little"))]
    there = [it for it in held if not it.taken_back]
    if not there:
        return None
    taken = sorted(there, key=_at)[-1]
    store(account, replace(taken, taken_back=True, conversion=None, pending=0))
    return taken


def pending(account: Account, items: Iterable[int] | None = None) -> list[Reversible]:
    """Purchases that name no slate and found no slot so far, of these items (None: all)."""
    rows = account.reversibles
    if items is None:
        places: list[int] = list(range(0, len(rows), SIZE))
    else:
        named = [item.to_bytes(8, "little") for item in dict.fromkeys(items)]
        places = sorted(at for item in named for at in _places(rows, item))
    found = [_read(account, at) for at in places]
    return [held for held in found if held.pending]


def _at(held: Reversible) -> int:
    return held.at


def _ordered(rows: bytes) -> list[bytes]:
    """The rows, oldest first, those of one second as they came."""
    each = [rows[at : at + SIZE] for at in range(0, len(rows), SIZE)]
    return sorted(each, key=_row_at)


def _row_at(row: bytes) -> int:
    at: int = _HEAD.unpack(row)[2]
    return at


def _read(account: Account, at: int) -> Reversible:
    item, identity, time, action, flags, pending_at, currency, amount, quantity = _ROW.unpack_from(
        account.reversibles, at
    )
    conversion = None
    if flags & _CONVERTED:
        named = [it for it in account.conversions if (it.identity, it.item) == (identity, item)]
        conversion = named[0].conversion if named else None
    return Reversible(
        identity, item, action, time, bool(flags & _COUNTED), amount, currency, quantity,
        conversion, pending_at, bool(flags & _TAKEN_BACK),
    )  # fmt: skip


def _places(rows: bytes, sought: bytes) -> Iterator[int]:
    """Where rows begin that begin so."""
    at = rows.find(sought)
    while at >= 0:
        if at % SIZE == 0:
            yield at
        at = rows.find(sought, at + 1)


def _place(rows: bytes, name: bytes) -> int:
    return next(_places(rows, name), -1)


def _add_conversion(account: Account, held: Reversible) -> None:
    if held.conversion is not None:
        new = Converted(held.identity, held.item, held.conversion)
        insort(account.conversions, new, key=lambda it: (it.identity, it.item))


def _forget_conversions(account: Account, rows: bytes) -> None:
    """Drops the conversions of these rows."""
    if not account.conversions:
        return
    gone = {(identity, item) for item, identity, *_ in _ROW.iter_unpack(rows)}
    account.conversions = [it for it in account.conversions if (it.identity, it.item) not in gone]
