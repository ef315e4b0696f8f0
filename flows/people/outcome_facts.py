"""Facts of one batch about slots, units and money, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

import numpy as np

from models.outcomes.effects import Effect, Payment
from models.outcomes.stored_join import ARM, MOMENT, Changed, arm_row, columns, moment_row, widths
from schemas.state.facts import Packed
from schemas.state.write import Write

_MONEY: Final = np.dtype(
    [
        ("delta", "<u4"),
        ("item", "<u8"),
        ("currency", "<u4"),
        ("amount", "<i8"),
        ("quantity", "<i4"),
        ("purchases", "i1"),
    ]
)
_SECTIONS: Final = [
    (name, row.itemsize, widths(row))
    for name, row in (("arms", ARM), ("moments", MOMENT), ("money", _MONEY))
]
"""(field of the entry, bytes of a row, of its columns)."""
_MONEY_ROW: Final = Struct("<IQIqib")


OutcomeFacts = Mapping[str, Packed]
"""Sections of an entry of the delta log, by its field: arms, moments and money, those that there are."""


class BatchFacts:
    """Collects the facts of one batch, as rows, and counts for metrics in its write."""

    def __init__(self, write: Write) -> None:
        self._first, self._counts = write.first, write.counts
        self._arms: list[bytes] = []
        self._moments: list[bytes] = []
        self._money: list[bytes] = []

    def delta(self, offset: int) -> int:
        return offset - self._first

    def add(self, offset: int, effect: Effect) -> None:
        delta = self.delta(offset)
        self._arms += [arm_row(delta, change) for change in effect.arms]
        self._moments += [moment_row(delta, change) for change in effect.unit_changes]
        self.pay(offset, effect.money)
        for word, n in effect.counts.items():
            self.count(word, n)

    def add_changed(self, changed: Changed) -> None:
        """The facts of an account that was changed as it is stored."""
        self._arms.append(changed.arms)
        if changed.moments:
            self._moments.append(changed.moments)

    def count(self, word: str, n: int = 1) -> None:
        self._counts[word] = self._counts.get(word, 0) + n

    def pay(self, offset: int, paid: Sequence[Payment]) -> None:
        if paid:
            self._money += [_MONEY_ROW.pack(self.delta(offset), *each) for each in paid]

    def pay_once(self, offset: int, item: int, currency: int, amount: int, quantity: int) -> None:
        """Adds the payment of one purchase that names a currency."""
        row = _MONEY_ROW.pack(offset - self._first, item, currency, amount, quantity, 1)
        self._money.append(row)

    def facts(self) -> OutcomeFacts:
        found = zip(_SECTIONS, (self._arms, self._moments, self._money), strict=True)
        return {
            name: Packed(len(data) // size, columns(data, sizes))
            for (name, size, sizes), rows in found
            if (data := b"".join(rows))
        }
