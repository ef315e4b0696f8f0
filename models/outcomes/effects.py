"""What one record changes: slots, units, money, and what it takes back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from models.outcomes.open_slates import Counts, Reversible


class SlotChange(NamedTuple):
    """A slot came into a state (`sign` 1), or left it again (-1)."""

    placement: int
    item: int
    state: int
    explored: bool
    sign: int = 1


class UnitChange(NamedTuple):
    """The counts of a unit before and after a record."""

    experiment: int
    version: int
    variant: int
    before: Counts
    after: Counts


class Payment(NamedTuple):
    """A purchase with a currency, or one taken back, with all numbers below 0."""

    item: int
    currency: int
    amount: int
    """Minor units."""
    quantity: int
    purchases: int


@dataclass(slots=True)
class Effect:
    """Everything that one record changes. `counts`: for metrics; `tallies`: actions that were accepted and
    are not counted, by reason."""

    arms: list[SlotChange] = field(default_factory=list)
    unit_changes: list[UnitChange] = field(default_factory=list)
    money: list[Payment] = field(default_factory=list)
    taken_back: list[Reversible] = field(default_factory=list)
    again: list[Reversible] = field(default_factory=list)
    """Orders that the account has already: their facts are taken back."""
    counts: Counter[str] = field(default_factory=Counter)
    tallies: dict[str, int] = field(default_factory=dict)


def payment(held: Reversible, sign: int = 1) -> list[Payment]:
    """The payment of a purchase; none where it names no currency. `sign` -1: it is taken back.

    >>> payment(Reversible(1, 7, 2, 0, True, amount=1900, currency=5), -1)
    [Payment(item=7, currency=5, amount=-1900, quantity=-1, purchases=-1)]
    """
    if not held.currency:
        return []
    return [Payment(held.item, held.currency, sign * held.amount, sign * held.quantity, sign)]
