"""Money by currency: purchases, quantity and amount in minor units, less what was taken back.

Integers, so exact in any order of facts. A purchase without a currency is in no sum here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.state.facts import Money as Facts
from schemas.state.facts import currency_name

MAX_SUM: Final = 2**63 - 1
Sums = tuple[int, int, int]
"""Purchases, quantity, amount."""


class Money:
    """The sums of each currency that any purchase named."""

    def __init__(self) -> None:
        self._of: dict[int, Sums] = {}
        self._changed = False

    @property
    def changed(self) -> bool:
        """Whether facts came since the last publication."""
        return self._changed

    def add(self, facts: Facts) -> None:
        if not len(facts.currency):
            return
        self._changed = True
        columns = (facts.currency, facts.purchases, facts.quantity, facts.amount)
        for currency, *more in zip(*(column.tolist() for column in columns), strict=True):
            held = self._of.get(currency, (0, 0, 0))
            purchases, quantity, amount = (
                min(max(a + b, -MAX_SUM), MAX_SUM) for a, b in zip(held, more, strict=True)
            )
            self._of[currency] = purchases, quantity, amount

    def publish(self) -> dict[str, Sums]:
        """The sums by the name of the currency, ascending."""
        self._changed = False
        return {currency_name(code): self._of[code] for code in sorted(self._of)}

    def dump(self) -> dict[str, NDArray[Any]]:
        return {
            "currencies": np.array(list(self._of), np.uint32),
            "sums": np.array(list(self._of.values()), np.int64).reshape(-1, 3),
        }

    @classmethod
    def load(cls, held: Mapping[str, NDArray[Any]]) -> Money:
        money = cls()
        sums = [(n, quantity, amount) for n, quantity, amount in held["sums"].tolist()]
        money._of = dict(zip(held["currencies"].tolist(), sums, strict=True))
        return money
