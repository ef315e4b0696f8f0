"""Conversions: which slot a purchase converts, and how it loses that slot again.

A purchase that names its slate converts the slot there (`models.outcomes.slots`). One that names none
converts the slot of its item that the person clicked last, else the one that was displayed to them last, of
all that no purchase converted yet and that `models.outcomes.touched` reaches. A slot is converted once;
a purchase that names its slate takes it from one that names none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from models.outcomes import holders, reversibles, touched
from models.outcomes.effects import Effect, SlotChange, UnitChange, payment
from models.outcomes.open_slates import Account, Conversion, Counts, Holder, Reversible
from models.outcomes.touched import LOW, Reach, Row
from schemas.state.facts import ATTRIBUTION, STATES

CONVERTED: Final = STATES.index("converted")
LAST_CLICK, LAST_VIEW = STATES.index("last_click"), STATES.index("last_view")
_CLICKED: Final = 1 << STATES.index("clicked")
CONVERSIONS: Final = sum(1 << STATES.index(state) for state in ATTRIBUTION.values())
"""Bits of the states of a converted slot."""


def infer(account: Account, held: Reversible, received: int, reach: Reach, effect: Effect) -> bool:
    """Converts a slot for a purchase that names no slate, received at `received` (s); where there is none, it
    stays pending. Whether there was one. In place, but for the row of `held`."""
    found = _newest(account, held.item, received, reach)
    if found is None:
        held.pending = received
        return False
    held.pending = 0
    of, holder, row = found
    state = LAST_CLICK if row.states & _CLICKED else LAST_VIEW
    units = holder.unit_sets[row.units]
    held.conversion = Conversion(of, row.slate, row.placement, bool(row.explored), state, units)
    _set_states(holder, row.slate, row.item, on=1 << state)
    effect.arms.append(SlotChange(row.placement, row.item, state, bool(row.explored)))
    effect.counts[f"attributed:{STATES[state]}"] += 1
    count_units(holder, units, [state], 1, effect)
    return True


def settle(
    account: Account, reach: Reach, effect: Effect, items: Iterable[int] | None = None
) -> None:
    """Converts slots for pending purchases, after slots of `items` (None: any) were touched: the record of a
    slate may come after the purchase, by another process. In place."""
    for held in reversibles.pending(account, items):
        if infer(account, held, held.pending, reach, effect):
            reversibles.store(account, held)


def release(account: Account, held: Reversible, effect: Effect) -> None:
    """Takes back the conversion of a purchase; its slot may be converted again. In place, but for the row of
    `held`."""
    slot, held.conversion = held.conversion, None
    if slot is None:
        return
    effect.arms.append(SlotChange(slot.placement, held.item, slot.state, slot.explored, -1))
    effect.counts["released"] += 1
    holder = holders.find(account, slot.of)
    if holder is not None:
        _set_states(holder, slot.slate, held.item, off=1 << slot.state)
        count_units(holder, slot.units, [slot.state], -1, effect)


def take_slot(account: Account, item: int, slot: Conversion, effect: Effect) -> None:
    """Takes back the conversion of a slot, from the purchase that has it. In place."""
    for it in account.conversions:
        its = it.conversion
        if it.item == item and (its.of, its.slate) == (slot.of, slot.slate):
            held = reversibles.find(account, it.identity, item)
            assert held is not None
            release(account, held, effect)
            reversibles.store(account, held)
            return
    # that purchase is no longer among those that can be taken back
    release(account, Reversible(0, item, 0, 0, False, conversion=slot), effect)


def adopt(account: Account, of: str, moved: Reversible, effect: Effect) -> None:
    """Adds a purchase of the anonymous id `of`. Of an order that the account has already, the one
    that names a slate keeps its conversion, and the money of the other is taken back. In place."""
    slot = moved.conversion
    if slot is not None:
        units = () if slot.of else slot.units  # a guest's units did not move
        moved.conversion = Conversion(
            slot.of or of, slot.slate, slot.placement, slot.explored, slot.state, units
        )
    own = reversibles.find(account, moved.identity, moved.item)
    if own is None:
        reversibles.hold(account, moved)
        return
    if own.taken_back or moved.taken_back:
        _take_back_both(account, own, moved, effect)
        return
    if not own.currency:
        own.amount, own.currency, own.quantity = moved.amount, moved.currency, moved.quantity
    else:
        effect.money += payment(moved, -1)
    if moved.conversion is not None:
        if own.conversion is None or (
            own.conversion.state != CONVERTED and moved.conversion.state == CONVERTED
        ):
            release(account, own, effect)
            own.conversion, own.pending = moved.conversion, 0
        else:
            release(account, moved, effect)
    reversibles.store(account, own)


def _take_back_both(account: Account, own: Reversible, moved: Reversible, effect: Effect) -> None:
    """One of two copies of an order was taken back, so both are."""
    if own.taken_back and not moved.taken_back:
        release(account, moved, effect)
        effect.money += payment(moved, -1)
    elif not own.taken_back:
        release(account, own, effect)
        effect.taken_back.append(own)
        effect.money += payment(own, -1)
        reversibles.store(account, replace(own, taken_back=True, pending=0))


def count_units(
    holder: Holder, units: tuple[int, ...], states: list[int], sign: int, effect: Effect
) -> None:
    """Adds `sign` for each of `states` to the counts of these units. In place."""
    if not states:
        return
    for place in units:
        if place >= len(holder.units):
            continue  # of a guest that was dropped and came again
        unit = holder.units[place]
        before = unit.counts
        unit.counts = _plus(before, states, sign)
        if unit.counts != before:
            effect.unit_changes.append(
                UnitChange(unit.experiment, unit.version, unit.variant, before, unit.counts)
            )


def _plus(counts: Counts, states: list[int], sign: int) -> Counts:
    served, displayed, clicked, converted, last_click, last_view = (
        max(0, held + sign * states.count(state)) for state, held in enumerate(counts)
    )
    return served, displayed, clicked, converted, last_click, last_view


def _newest(account: Account, item: int, at: int, reach: Reach) -> tuple[str, Holder, Row] | None:
    """The slot of `item` that a purchase at `at` (s) converts, with its holder."""
    sought, oldest = item.to_bytes(8, "little"), at - reach.window_ms // 1000
    best: tuple[str, Holder, Row] | None = None
    for of, holder in holders.every(account):
        if sought not in holder.touched:
            continue
        for row in touched.rows(holder.touched):
            if row.item != item or row.states & CONVERSIONS or not oldest <= row.at <= at:
                continue
            if best is None or _rank(row) > _rank(best[2]):
                best = of, holder, row
    return best


def _rank(row: Row) -> tuple[int, int, int]:
    return row.states & _CLICKED, row.at, row.slate


def _set_states(holder: Holder, slate: int, item: int, *, on: int = 0, off: int = 0) -> None:
    """Changes the bits of a slot, in `touched` and where its slate is open. In place."""
    holder.touched = touched.set_states(holder.touched, slate, item, on, off)
    for held in holder.slates:
        if held.id & LOW == slate and (place := holders.place_of(held.items, item)) >= 0:
            held.states[place] = (held.states[place] | on) & ~off
