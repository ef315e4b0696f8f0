"""The join of slates with what people do (`models.outcomes.join`), on an account as it is stored.

Nearly every record is a slate for a person, or what they did on an open slate of theirs: the kernel changes
the stored bytes for it, and nothing is decoded. The same by Python is the definition. A record that needs
more (links, outcomes that wait, purchases, a slate that came before) is none of those: None.
"""

from __future__ import annotations

from itertools import accumulate
from struct import Struct, pack
from typing import Any, Final, NamedTuple

import numpy as np

from models.kernels.loading import kernel
from models.outcomes import join, layout, open_slates, reversibles
from models.outcomes.effects import Effect, SlotChange, UnitChange
from models.outcomes.join import REACH
from models.outcomes.open_slates import Account, Outcome
from models.outcomes.slots import Shown
from models.outcomes.touched import Reach
from schemas.state.facts import STATES

ARM: Final = np.dtype(
    [
        ("delta", "<u4"),
        ("placement", "<u4"),
        ("item", "<u8"),
        ("state", "u1"),
        ("explored", "u1"),
        ("sign", "i1"),
        ("reward", "<f4"),
    ]
)
"""A row of `schemas.state.facts.Arms`."""
MOMENT: Final = np.dtype(
    [
        ("delta", "<u4"),
        ("experiment", "<u4"),
        ("version", "<u2"),
        ("variant", "<u4"),
        ("before", "<u4", (len(STATES),)),
        ("after", "<u4", (len(STATES),)),
    ]
)
"""A row of `schemas.state.facts.Moments`."""
MAX_ACCOUNT_BYTES: Final = 65_536
"""Python changes larger ones."""
_MAX_ITEMS: Final = 0xFFFF
_ARM: Final = Struct("<IIQBBbf")
_MOMENT: Final = Struct("<IIHI6I6I")
_SERVED: Final = Struct("<QQIIHH")
_ASSIGNED: Final = Struct("<IHI")
_CLICKED: Final = STATES.index("clicked")
_WHY: Final = ("", "unattributed:item", "unattributed:late", "repeated")
"""Of an outcome that does not count, by what the kernel returns."""


class Changed(NamedTuple):
    """The account after a record, as stored, with the facts of the record as rows of `ARM` and `MOMENT`.
    `why`: the count (`models.outcomes.effects.Effect`) of an outcome that changes nothing; "": it counts."""

    stored: bytes
    arms: bytes
    moments: bytes
    why: str = ""


def arm_row(delta: int, change: SlotChange) -> bytes:
    return _ARM.pack(delta, *change, change.state == _CLICKED)


def moment_row(delta: int, change: UnitChange) -> bytes:
    experiment, version, variant, before, after = change
    return _MOMENT.pack(delta, experiment, version, variant, *before, *after)


def widths(row: np.dtype[Any]) -> bytes:
    """The bytes of each column of such rows."""
    return bytes(row[name].itemsize for name in row.names or ())


def columns(rows: bytes, sizes: bytes) -> bytes:
    """The columns of these rows, one after the other. `sizes`: their `widths`."""
    n = len(rows) // sum(sizes)
    if n == 1:
        return rows
    if kernel is None:
        return columns_by_python(rows, sizes)
    made = bytearray(len(rows))
    out = kernel.ffi.from_buffer("uint8_t[]", made)
    kernel.lib.outcome_columns(rows, n, sizes, len(sizes), out)
    return bytes(made)


def columns_by_python(rows: bytes, sizes: bytes) -> bytes:
    size = sum(sizes)
    stops = list(accumulate(sizes))
    return b"".join(
        rows[at + stop - width : at + stop]
        for stop, width in zip(stops, sizes, strict=True)
        for at in range(0, len(rows), size)
    )


def is_plain(stored: bytes) -> bool:
    """Whether a record of a slate may concern the account's own slates only, and it is of this version."""
    return not stored or (
        stored[0] == layout.VERSION
        and len(stored) > 1
        and not stored[1] & (layout.OTHERS | layout.WHOLE)
    )


def may_convert(stored: bytes, item: int) -> bool:
    """Whether a purchase of the item that names no slate may convert a slot of an account that `is_plain`, or
    of a guest of it. False: no touched slot is of this item."""
    if len(stored) < 2 or not stored[1] & (layout.TOUCHED | layout.LINKS):
        return False
    return bool(stored[1] & layout.LINKS) or item.to_bytes(8, "little") in stored


def has_rest(stored: bytes) -> bool:
    """Whether it holds what the kernel copies unread."""
    return len(stored) > 1 and bool(stored[1] & layout.REST)


class StoredJoin:
    """`reach`: of a purchase that names no slate."""

    def __init__(self, reach: Reach = REACH) -> None:
        self._reach = reach
        self._window_s = reach.window_ms // 1000
        self.compiled = kernel is not None and reach.slots > 0 and 0 <= self._window_s < 2**32
        """Whether it is quicker than to decode the account."""
        if kernel is not None:
            self._out = kernel.ffi.new("uint8_t[]", 2 * MAX_ACCOUNT_BYTES)
            self._sizes = kernel.ffi.new("uint32_t[3]")
            self._made = kernel.ffi.buffer(self._out)
            self._lib: Any = kernel.lib

    def serve(self, stored: bytes, shown: Shown, delta: int) -> Changed | None:
        """Adds a slate that was served to the account's own id. `delta`: of its facts."""
        if not self.compiled or len(stored) > MAX_ACCOUNT_BYTES:
            return self.serve_by_python(stored, shown, delta)
        record = served_record(shown)
        if not record:
            return None
        done = self._lib.outcomes_serve(
            stored, len(stored), record, len(record), delta, self._out, len(self._made), self._sizes
        )
        return None if done else self._changed()

    def act(
        self, account: bytes, slate: int, outcome: Outcome, purchases: bytes, delta: int
    ) -> Changed | None:
        """Adds a display or click of an item of an open slate. `purchases`: the person's, as stored."""
        if not self.compiled or len(account) > MAX_ACCOUNT_BYTES:
            return self.act_by_python(account, slate, outcome, purchases, delta)
        item, state, at, identity = outcome.item, outcome.state, outcome.at, outcome.identity
        if identity or (purchases and item.to_bytes(8, "little") in purchases):
            return None
        done = self._lib.outcomes_act(
            account, len(account), slate, item, state, at, self._reach.slots, self._window_s,
            delta, self._out, len(self._made), self._sizes,
        )  # fmt: skip
        if done < 0:
            return None
        return Changed(account, b"", b"", _WHY[done]) if done else self._changed()

    def _changed(self) -> Changed:
        made = self._made
        arms, moments, end = self._sizes
        return Changed(made[moments:end], made[:arms], made[arms:moments])

    # -- the definition -------------------------------------------------------------------

    def serve_by_python(self, stored: bytes, shown: Shown, delta: int) -> Changed | None:
        if not is_plain(stored):
            return None
        account = open_slates.decode(stored)
        if account.links is not None and (not account.since or shown.at < account.since):
            return None  # readers may know another first link then
        effect = join.serve(account, shown, reach=self._reach)
        if set(effect.counts) != {"served", "served_items"}:
            return None
        return _by_python(account, effect, delta)

    def act_by_python(
        self, stored: bytes, slate: int, outcome: Outcome, purchases: bytes, delta: int
    ) -> Changed | None:
        held = purchases and outcome.item.to_bytes(8, "little") in purchases
        if not is_plain(stored) or outcome.identity or outcome.state > _CLICKED or held:
            return None
        account = open_slates.decode(stored)
        reversibles.load(account, purchases)
        if all(it.id != slate for it in account.slates):
            return None
        effect = join.act(account, slate, outcome, self._reach)
        why = next((why for why in _WHY if why in effect.counts), "")
        return _by_python(account, effect, delta)._replace(why=why)


def served_record(shown: Shown) -> bytes:
    """A served slate as the kernel reads it: id u8, at u8, placement u4, rank of the explored item u4 (0:
    none), number of items u2, of assignments u2, the items u8, and of each assignment experiment u4, version
    u2, variant u4. b"": it has too many."""
    n, assigned = len(shown.items), shown.assigned
    if n > _MAX_ITEMS or len(assigned) > _MAX_ITEMS:
        return b""
    explored = shown.explored if 0 < shown.explored <= n else 0
    head = _SERVED.pack(shown.id, shown.at, shown.placement, explored, n, len(assigned))
    items = pack(f"<{n}Q", *shown.items)
    if not assigned:
        return head + items
    return b"".join([head, items, *[_ASSIGNED.pack(*each) for each in assigned]])


def _by_python(account: Account, effect: Effect, delta: int) -> Changed:
    return Changed(
        open_slates.encode(account),
        b"".join([arm_row(delta, it) for it in effect.arms]),
        b"".join([moment_row(delta, it) for it in effect.unit_changes]),
    )
