"""The strangers of a partition, by plain lists: who was shown slates and has done nothing yet."""

from __future__ import annotations

from collections.abc import Iterator

from models.outcomes.join import REACH
from models.outcomes.open_slates import Account
from models.outcomes.touched import Reach
from models.reference.holders import Holder, ReferenceSlate
from models.reference.outcomes import ReferenceOutcomes
from schemas.events import Served

_ROOM = 224
"""Bytes for the account of a stranger."""
_HEAD, _ITEM, _PLACEMENT, _SLATE, _SLOT, _SLATES_UNIT, _UNIT = 28, 8, 4, 17, 1, 2, 22


class ReferenceStrangers:
    """The newest `limit`, by when they were last shown a slate. `held`: those of before, oldest first."""

    def __init__(
        self, limit: int, reach: Reach = REACH, held: dict[str, Account] | None = None
    ) -> None:
        self.limit, self._reach = limit, reach
        self._held: dict[str, ReferenceOutcomes | None] = {
            name: ReferenceOutcomes.of(account, reach) for name, account in (held or {}).items()
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def account(self, name: str) -> Account | None:
        """The account that is kept of a stranger; None where their records passed over."""
        outcomes = self._held.get(name)
        return outcomes.account() if outcomes is not None else None

    def serve(self, offset: int, e: Served) -> ReferenceOutcomes:
        """Adds a slate; returns the outcomes with its facts."""
        outcomes = self._held.pop(e.person, None) or ReferenceOutcomes(self._reach)
        outcomes.add(offset, e)
        outcomes.shown.clear()
        _trim(outcomes.own)
        self._keep(e.person, outcomes)
        return outcomes

    def pass_over(self, name: str) -> None:
        """Adds a slate of somebody who is not checked: their place, and nothing else."""
        self._held.pop(name, None)
        self._keep(name, None)

    def _keep(self, name: str, outcomes: ReferenceOutcomes | None) -> None:
        self._held[name] = outcomes
        while len(self._held) > self.limit:
            del self._held[next(iter(self._held))]

    def meet(self, name: str) -> ReferenceOutcomes | None:
        """What is kept of somebody who acts now; None for nothing."""
        outcomes = self._held.pop(name, None)
        if outcomes is not None:
            outcomes.shown = [
                [(item, 1, slate.at // 1000) for item in slate.items]
                for slate in outcomes.own.slates
                if slate.items
            ]
        return outcomes


def _trim(held: Holder) -> None:
    """Drops the oldest slates, then the last items of the newest one, then units, until it fits."""
    while _size(held) > _ROOM:
        if len(held.slates) > 1:
            held.slates = held.slates[1:]
        elif held.slates and held.slates[0].items:
            held.slates = [_shorter(held.slates[0])]
        elif held.slates:
            held.slates = []
        else:
            held.units = dict(list(held.units.items())[:-1])


def _size(held: Holder) -> int:
    """The bytes that `models.outcomes.layout` takes for it; every slot has the same state."""
    items = {item for slate in held.slates for item in slate.items}
    placements = {slate.placement for slate in held.slates}
    slots = sum(len(slate.items) for slate in held.slates)
    units = sum(len(slate.units) for slate in held.slates)
    return (
        _HEAD
        + _ITEM * len(items)
        + _PLACEMENT * len(placements)
        + _SLATE * len(held.slates)
        + _SLOT * slots
        + _SLATES_UNIT * units
        + _UNIT * len(held.units)
    )


def _shorter(slate: ReferenceSlate) -> ReferenceSlate:
    items = slate.items[:-1]
    return slate._replace(
        items=items,
        places={item: place for place, item in enumerate(items)},
        states=slate.states[:-1],
        explored=slate.explored if slate.explored < len(items) else -1,
    )
