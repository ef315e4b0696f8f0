"""Outcomes that came before the record of their slate, and the bounds of an account."""

from __future__ import annotations

from typing import Final

from models.outcomes import holders
from models.outcomes.effects import Effect
from models.outcomes.open_slates import Account, OpenSlate, Outcome, Waiting
from models.outcomes.slots import WINDOW_MS
from schemas.alphabet import Millis

MAX_OPEN_SLATES: Final = 20
MAX_WAITING_OUTCOMES: Final = 100
"""Outcomes that wait for one slate."""


def wait(account: Account, slate_id: int, outcome: Outcome, effect: Effect) -> None:
    for waiting in account.waiting:
        if waiting.slate == slate_id:
            break
    else:
        waiting = Waiting(slate_id, [])
        account.waiting.append(waiting)
    for held in waiting.outcomes:
        if (held.item, held.state) == (outcome.item, outcome.state):
            held.at = min(held.at, outcome.at)
            effect.counts["repeated"] += 1
            return
    if len(waiting.outcomes) < MAX_WAITING_OUTCOMES:
        waiting.outcomes.append(outcome)
    else:
        effect.counts["unattributed:full"] += 1


def awaited(account: Account, slate_id: int) -> list[Outcome]:
    """Removes and gives the outcomes that waited for this slate."""
    for n, waiting in enumerate(account.waiting):
        if waiting.slate == slate_id:
            return account.waiting.pop(n).outcomes
    return []


def forget_order(account: Account, identity: int, item: int) -> None:
    """Drops the waiting outcomes of a purchase that was taken back. In place."""
    for waiting in account.waiting:
        waiting.outcomes = [
            held for held in waiting.outcomes if (held.identity, held.item) != (identity, item)
        ]
    account.waiting = [waiting for waiting in account.waiting if waiting.outcomes]


def forget(account: Account, effect: Effect) -> None:
    """Drops slates and outcomes beyond the bounds: first by age, then by number."""
    _drop(account.slates, account.newest - WINDOW_MS)
    newest = account.newest
    if guests := holders.guests(account):
        newest = max(newest, *[guest.newest for guest in guests])
        for guest in guests:
            _drop(guest.slates, newest - WINDOW_MS)
    if not account.waiting:
        return
    before = sum(len(waiting.outcomes) for waiting in account.waiting)
    oldest = newest - WINDOW_MS
    for waiting in account.waiting:
        waiting.outcomes = [outcome for outcome in waiting.outcomes if outcome.at >= oldest]
    account.waiting = [waiting for waiting in account.waiting if waiting.outcomes][
        -MAX_OPEN_SLATES:
    ]
    lost = before - sum(len(waiting.outcomes) for waiting in account.waiting)
    if lost:
        effect.counts["unattributed:never_served"] += lost


def _drop(slates: list[OpenSlate], oldest: Millis) -> None:
    while slates and slates[0].at < oldest:
        del slates[0]
    del slates[: max(0, len(slates) - MAX_OPEN_SLATES)]
