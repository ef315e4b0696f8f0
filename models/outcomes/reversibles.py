"""What a person can take back: their newest purchases and likes. Log-ordered."""

from __future__ import annotations

from bisect import insort
from typing import Final

from models.outcomes.open_slates import Account, Reversible

MAX_REVERSIBLES: Final = 100


def hold(account: Account, new: Reversible) -> None:
    """Adds a purchase or like; the oldest makes room. In place."""
    insort(account.reversibles, new, key=_order)
    del account.reversibles[:-MAX_REVERSIBLES]


def find(account: Account, identity: int, item: int) -> Reversible | None:
    """The one of this identity, which more than one item may have: lines of one order."""
    for held in account.reversibles:
        if held.identity == identity and held.item == item:
            return held
    return None


def take(account: Account, item: int, action: int) -> Reversible | None:
    """Removes and gives the newest of this item and action; None where there is none."""
    for n in range(len(account.reversibles) - 1, -1, -1):
        held = account.reversibles[n]
        if held.item == item and held.action == action:
            return account.reversibles.pop(n)
    return None


def _order(held: Reversible) -> tuple[int, int, int, int]:
    return held.at, held.identity, held.item, held.action
