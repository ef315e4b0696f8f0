"""Facts of one batch about slots, units and money, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np

from models.outcomes.effects import Effect, Payment
from models.outcomes.stored_join import ARM, MOMENT, Changed, arm_row, moment_row
from schemas.state import facts
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
_MONEY_ROW: Final = Struct("<IQIqib")


class OutcomeFacts(NamedTuple):
    arms: facts.Arms = facts.NO_ARMS
    moments: facts.Moments = facts.NO_MOMENTS
    money: facts.Money = facts.NO_MONEY


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

    def facts(self) -> OutcomeFacts:
        return OutcomeFacts(
            facts.Arms(*_columns(self._arms, ARM)) if self._arms else facts.NO_ARMS,
            facts.Moments(*_columns(self._moments, MOMENT)) if self._moments else facts.NO_MOMENTS,
            facts.Money(*_columns(self._money, _MONEY)) if self._money else facts.NO_MONEY,
        )


def _columns(rows: list[bytes], row: np.dtype[Any]) -> list[Any]:
    held = np.frombuffer(b"".join(rows), row)
    return [held[name] for name in row.names or ()]
