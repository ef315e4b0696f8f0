"""Slots that a person clicked or saw displayed: the newest, kept apart from open slates. Log-ordered.

A slate is open for a day, but a purchase that names no slate converts a slot up to a week later
(`models.outcomes.conversions`). So each id keeps rows of 24 B in one string: the newest `Reach.slots` by
(at, slate, item), none of them older than `Reach.window_ms` before the newest.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from models.outcomes.open_slates import Holder
from schemas.alphabet import Millis
from schemas.state.facts import STATES
from schemas.times import DAY_MS

LOW: Final = 0xFFFF_FFFF
"""Of a slate's id the low bits, which a row keeps."""
MAX_UNIT_SETS: Final = 200
"""Beyond, sets that no row names are dropped."""
_ROW: Final = Struct("<QIIIHBB")
_HEAD: Final = Struct("<QIII")
"""Item, at, placement, slate."""
_AT: Final = Struct("<8xI")
SIZE: Final = _ROW.size
_CLICKED: Final = 1 << STATES.index("clicked")


class Reach(NamedTuple):
    """How many slots are kept, and for how long a purchase may convert one, ms."""

    slots: int = 100
    window_ms: Millis = 7 * DAY_MS


class Row(NamedTuple):
    """A slot. `at`: when it was clicked, else displayed, s; `slate`: the low bits of its id; `units`: index
    into the holder's `unit_sets`; `states`: a bit a state; `explored`: 1 where exploration drew it."""

    item: int
    at: int
    placement: int
    slate: int
    units: int
    states: int
    explored: int


def rows(touched: bytes) -> list[Row]:
    return [Row(*row) for row in _ROW.iter_unpack(touched)]


def find(touched: bytes, slate: int, item: int) -> int:
    """Where the row of a slot begins; -1 if it is missing."""
    sought, low = item.to_bytes(8, "little"), slate.to_bytes(4, "little")
    at = touched.find(sought)
    while at >= 0 and (at % SIZE or touched[at + 16 : at + 20] != low):
        at = touched.find(sought, at + 1)
    return at


def row(touched: bytes, at: int) -> Row:
    return Row(*_ROW.unpack_from(touched, at))


def put(touched: bytes, new: Row, reach: Reach) -> bytes:
    """The rows with `new` in the place of its slot's earlier row."""
    held = find(touched, new.slate, new.item)
    if held >= 0:
        touched = touched[:held] + touched[held + SIZE :]
    return _insert(touched, new, reach)


def _insert(touched: bytes, new: Row, reach: Reach) -> bytes:
    order, end = (new.at, new.slate, new.item), len(touched)
    while end:
        item, at, _, slate = _HEAD.unpack_from(touched, end - SIZE)
        if (at, slate, item) <= order:
            break
        end -= SIZE
    touched = touched[:end] + _ROW.pack(*new) + touched[end:]
    first = max(0, len(touched) - reach.slots * SIZE)
    (newest,) = _AT.unpack_from(touched, len(touched) - SIZE)
    oldest = newest - reach.window_ms // 1000
    while _AT.unpack_from(touched, first)[0] < oldest:
        first += SIZE
    return touched[first:] if first else touched


def bounded(touched: bytes, latest: int) -> bytes:
    """The rows, none of them later than `latest` (s)."""
    return b"".join(_ROW.pack(*it._replace(at=min(it.at, latest))) for it in rows(touched))


def touch(holder: Holder, new: Row, reach: Reach) -> None:
    """Adds a slot that was clicked or displayed, with all its states. A click keeps its time when the
    slot is displayed after it. In place."""
    slots, at = holder.touched, find(holder.touched, new.slate, new.item)
    if at >= 0:
        held = row(slots, at)
        if held.states & _CLICKED:
            new = new._replace(at=held.at)
        slots = slots[:at] + slots[at + SIZE :]
    holder.touched = _insert(slots, new, reach)


def set_states(touched: bytes, slate: int, item: int, on: int, off: int = 0) -> bytes:
    """The rows with the bits `on` of a slot set and `off` cleared; as they are where the slot is missing."""
    at = find(touched, slate, item)
    if at < 0:
        return touched
    held = row(touched, at)
    changed = _ROW.pack(*held._replace(states=(held.states | on) & ~off))
    return touched[:at] + changed + touched[at + SIZE :]


def unit_set(holder: Holder, units: tuple[int, ...]) -> int:
    """The index of a set of units among the holder's, new where it is not there yet. In place."""
    if units in holder.unit_sets:
        return holder.unit_sets.index(units)
    if len(holder.unit_sets) >= MAX_UNIT_SETS:
        _drop_unused_sets(holder)
    holder.unit_sets.append(units)
    return len(holder.unit_sets) - 1


def take_in(holder: Holder, moved: bytes, sets: list[tuple[int, ...]], reach: Reach) -> None:
    """Adds the rows of another holder; `sets`: its sets, with the units' places in this one. In place."""
    for each in rows(moved):
        units = unit_set(holder, sets[each.units])
        holder.touched = put(holder.touched, each._replace(units=units), reach)


def _drop_unused_sets(holder: Holder) -> None:
    held = rows(holder.touched)
    used = sorted({each.units for each in held})
    holder.unit_sets = [holder.unit_sets[place] for place in used]
    holder.touched = b"".join(
        _ROW.pack(*each._replace(units=used.index(each.units))) for each in held
    )
