"""Facts of one batch about slots, units and money, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.outcomes.effects import Effect, Payment
from schemas.state import facts
from schemas.state.facts import STATES
from schemas.state.write import Write

_CLICKED: Final = STATES.index("clicked")


class OutcomeFacts(NamedTuple):
    arms: facts.Arms = facts.NO_ARMS
    moments: facts.Moments = facts.NO_MOMENTS
    money: facts.Money = facts.NO_MONEY


class BatchFacts:
    """Collects the facts of one batch, and counts for metrics in its write."""

    def __init__(self, write: Write) -> None:
        self._first, self._counts = write.first, write.counts
        self._arms: list[tuple[Any, ...]] = []
        self._moments: list[tuple[Any, ...]] = []
        self._money: list[tuple[Any, ...]] = []

    def add(self, offset: int, effect: Effect) -> None:
        delta = offset - self._first
        if effect.arms:
            self._arms += [(delta, *arm, arm.state == _CLICKED) for arm in effect.arms]
        if effect.unit_changes:
            self._moments += [(delta, *moved) for moved in effect.unit_changes]
        self.pay(offset, effect.money)
        for word, n in effect.counts.items():
            self._counts[word] = self._counts.get(word, 0) + n

    def pay(self, offset: int, paid: Sequence[Payment]) -> None:
        if paid:
            self._money += [(offset - self._first, *each) for each in paid]

    def facts(self) -> OutcomeFacts:
        return OutcomeFacts(
            facts.Arms(*_columns(self._arms, facts.NO_ARMS)),
            facts.Moments(*_columns(self._moments, facts.NO_MOMENTS)),
            facts.Money(*_columns(self._money, facts.NO_MONEY)),
        )


def _columns(rows: list[tuple[Any, ...]], none: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The rows as columns, with the dtypes of `none`."""
    columns = zip(*rows, strict=True) if rows else none
    return [np.array(column, held.dtype) for column, held in zip(columns, none, strict=True)]
