"""The slots of open slates: a slate is opened, and its slots come into states."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import Final, NamedTuple

from msgspec.structs import replace

from models.outcomes import conversions, reversibles, touched
from models.outcomes.conversions import CONVERSIONS, CONVERTED, LAST_CLICK, LAST_VIEW
from models.outcomes.effects import Effect, SlotChange
from models.outcomes.holders import place_of
from models.outcomes.open_slates import Account, Conversion, Holder, OpenSlate, Outcome, Unit
from models.outcomes.touched import LOW, Reach, Row
from schemas.alphabet import Millis
from schemas.state.facts import STATES
from schemas.times import DAY_MS

WINDOW_MS: Final = DAY_MS
_SERVED: Final = STATES.index("served")
_TOUCHES: Final = (STATES.index("displayed"), STATES.index("clicked"))


class Assignment(NamedTuple):
    """Hashes of experiment and variant, and the version."""

    experiment: int
    version: int
    variant: int


class Shown(NamedTuple):
    """A slate as it was served; `explored` is a rank, 0: none."""

    id: int
    at: Millis
    placement: int
    items: Sequence[int]
    explored: int = 0
    assigned: Sequence[Assignment] = ()


class Place(NamedTuple):
    """An open slate, with the id to which it was served ("": the account's own) and the holder."""

    of: str
    holder: Holder
    slate: OpenSlate


def opened(holder: Holder, shown: Shown, effect: Effect) -> OpenSlate:
    """The slate with all its slots served. An item that it holds twice is one slot, at its first rank."""
    items = tuple(dict.fromkeys(shown.items))
    explored = shown.items[shown.explored - 1] if 0 < shown.explored <= len(shown.items) else None
    slate = OpenSlate(
        shown.id,
        shown.at,
        shown.placement,
        pack(f"<{len(items)}Q", *items),
        bytearray([1 << _SERVED]) * len(items),
        items.index(explored) if explored is not None else -1,
        tuple(dict.fromkeys(_enrolled(holder, each, effect) for each in shown.assigned)),
    )
    effect.arms.extend(
        [
            SlotChange(shown.placement, item, _SERVED, n == slate.explored)
            for n, item in enumerate(items)
        ]
    )
    return slate


def _enrolled(holder: Holder, assigned: Assignment, effect: Effect) -> int:
    """Index of the id's unit in the experiment. The unit keeps its first variant."""
    for place, unit in enumerate(holder.units):
        if (unit.experiment, unit.version) == assigned[:2]:
            if unit.variant != assigned.variant:
                effect.counts["variant_changed"] += 1
            return place
    holder.units.append(Unit(*assigned))
    return len(holder.units) - 1


def mark(
    account: Account, at: Place, outcomes: Sequence[Outcome], effect: Effect, reach: Reach
) -> list[int]:
    """Brings slots into the states of these outcomes, and gives the states that they came into. In place."""
    gained = []
    for outcome in outcomes:
        place = place_of(at.slate.items, outcome.item)
        if place < 0:
            effect.counts["unattributed:item"] += 1
        elif outcome.at - at.slate.at > WINDOW_MS:
            effect.counts["unattributed:late"] += 1
        elif at.slate.states[place] >> outcome.state & 1 or (
            outcome.identity and _converts_no_more(account, outcome)
        ):
            effect.counts["repeated"] += 1
        else:
            if outcome.state == CONVERTED:
                _convert(account, at, place, outcome, effect)
            at.slate.states[place] |= 1 << outcome.state
            _remember(at, place, outcome, reach)
            effect.arms.append(
                SlotChange(
                    at.slate.placement, outcome.item, outcome.state, place == at.slate.explored
                )
            )
            effect.counts[f"attributed:{STATES[outcome.state]}"] += 1
            gained.append(outcome.state)
    return gained


def _converts_no_more(account: Account, outcome: Outcome) -> bool:
    """Whether this purchase converted another slot that it named, or was taken back."""
    held = reversibles.find(account, outcome.identity, outcome.item)
    if held is None:
        return False
    return held.taken_back or bool(held.conversion and held.conversion.state == CONVERTED)


def _convert(account: Account, at: Place, place: int, outcome: Outcome, effect: Effect) -> None:
    """Takes the slot from a purchase that names no slate, and gives it to the purchase of `outcome`."""
    slate = at.slate
    mine = Conversion(
        at.of,
        slate.id & LOW,
        slate.placement,
        place == slate.explored,
        CONVERTED,
        slate.units,
    )
    if slate.states[place] & CONVERSIONS:
        state = LAST_CLICK if slate.states[place] >> LAST_CLICK & 1 else LAST_VIEW
        conversions.take_slot(account, outcome.item, replace(mine, state=state), effect)
    held = reversibles.find(account, outcome.identity, outcome.item) if outcome.identity else None
    if held is not None:
        conversions.release(account, held, effect)
        held.conversion, held.pending = mine, 0
        reversibles.store(account, held)


def _remember(at: Place, place: int, outcome: Outcome, reach: Reach) -> None:
    """Keeps the slot among those that a purchase without a slate may convert."""
    slate, holder = at.slate, at.holder
    if outcome.state in _TOUCHES:
        units = touched.unit_set(holder, slate.units)
        new = Row(
            outcome.item,
            outcome.at // 1000,
            slate.placement,
            slate.id & LOW,
            units,
            slate.states[place],
            int(place == slate.explored),
        )
        touched.touch(holder, new, reach)
    else:
        holder.touched = touched.set_states(
            holder.touched, slate.id & LOW, outcome.item, 1 << outcome.state
        )
