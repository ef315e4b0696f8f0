"""Conversions of one person, and what they take back, by plain lists."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from models.outcomes.likes import MAX_LIKES
from models.outcomes.open_slates import Conversion, Reversible
from models.outcomes.reversibles import MAX_REVERSIBLES
from models.outcomes.touched import Reach
from models.reference.holders import (
    CONVERTED,
    INFERRED,
    LAST_CLICK,
    LAST_VIEW,
    Holder,
    TouchedSlot,
    UnitKey,
)

FactRow = tuple[object, ...]
_CLICKED = 2
LIKE = 5


def _at(held: Reversible) -> int:
    return held.at


class Conversions:
    """`arms`, `moments`, `money` and `backs`: the facts so far; the caller may clear them.

    A fact of `backs` is `(offset, item, s, action)`: it takes back the one of that action.
    """

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.own = Holder()
        self.guests: dict[str, Holder] = {}
        """Slates and units of the anonymous ids that were linked to this person."""
        self.reversibles: list[Reversible] = []
        self.arms: list[FactRow] = []
        self.moments: list[FactRow] = []
        self.money: list[FactRow] = []
        self.backs: list[tuple[int, int, int, int]] = []
        self.likes: list[tuple[int, int]] = []
        """31 bits of the item and whether it counted, time in s."""
        self.taken: list[tuple[int, int, int]] = []
        """(identity, item, s) of what was taken back; the caller may clear it."""
        self.tallies: Counter[str] = Counter()

    def held(self, identity: int, item: int) -> Reversible | None:
        same = [it for it in self.reversibles if (it.identity, it.item) == (identity, item)]
        return same[0] if same else None

    def hold(self, new: Reversible) -> None:
        self.reversibles.append(new)
        if len(self.reversibles) == 2 * MAX_REVERSIBLES:
            self.reversibles = sorted(self.reversibles, key=_at)[-MAX_REVERSIBLES:]

    def pay(self, offset: int, held: Reversible, sign: int) -> None:
        if held.currency:
            paid = (held.item, held.currency, sign * held.amount, sign * held.quantity, sign)
            self.money.append((offset, *paid))

    def back(self, offset: int, held: Reversible) -> None:
        if held.counted:
            self.backs.append((offset, held.item, held.at, held.action))

    def infer(self, offset: int, held: Reversible, received: int) -> None:
        """The slot of a purchase that names no slate; `received` in s."""
        at, window = received, self.reach.window_ms // 1000
        open_ = [
            (_CLICKED in slot.states, slot.at, slot.slate, -n, of, slot)
            for n, (of, holder) in enumerate(self.holders())
            for slot in holder.touched
            if slot.item == held.item
            and not slot.states & {CONVERTED, *INFERRED}
            and at - window <= slot.at <= at
        ]
        held.pending = 0 if open_ else received
        if not open_:
            return
        *_, of, slot = max(open_, key=lambda it: it[:4])
        self._convert(offset, held, of, slot)

    def settle(self, offset: int) -> None:
        """The slots of purchases that had none so far."""
        for held in self.reversibles:
            if held.pending:
                self.infer(offset, held, held.pending)

    def _convert(self, offset: int, held: Reversible, of: str, slot: TouchedSlot) -> None:
        holder = self.holder(of)
        assert holder is not None
        state = LAST_CLICK if _CLICKED in slot.states else LAST_VIEW
        places = tuple(list(holder.units).index(unit) for unit in slot.units)
        held.conversion = Conversion(of, slot.slate, slot.placement, slot.explored, state, places)
        holder.change(slot.slate, slot.item, {state}, set())
        arm = (offset, slot.placement, slot.item, state, int(slot.explored), 1, 0.0)
        self.arms.append(arm)
        self.count(offset, holder, slot.units, {state: 1})

    def release(self, offset: int, held: Reversible) -> None:
        """Takes back the conversion of a purchase."""
        slot, held.conversion = held.conversion, None
        if slot is None:
            return
        arm = (offset, slot.placement, held.item, slot.state, int(slot.explored), -1, 0.0)
        self.arms.append(arm)
        holder = self.holder(slot.of)
        if holder is not None:
            holder.change(slot.slate, held.item, set(), {slot.state})
            units = list(holder.units)
            named = [units[place] for place in slot.units if place < len(units)]
            self.count(offset, holder, named, {slot.state: -1})

    def take_slot(self, offset: int, item: int, slot: Conversion) -> None:
        """Takes back the conversion of a slot, from whichever purchase has it."""
        for held in self.reversibles:
            its = held.conversion
            if held.item == item and its and (its.of, its.slate) == (slot.of, slot.slate):
                self.release(offset, held)
                return
        self.release(offset, Reversible(0, item, 0, 0, False, conversion=slot))

    def unlike(self, offset: int, item: int) -> None:
        """Takes back the newest like of the item."""
        same = [it for it in self.likes if it[0] // 2 == item % 2**32 // 2]
        if not same:
            self.tallies["unlike_without_like"] += 1
            return
        bits, at = newest = max(same, key=lambda it: (it[1], it[0]))
        self.likes.remove(newest)
        self.taken.append((0, item, at))
        if bits % 2:
            self.backs.append((offset, item, at, LIKE))

    def like(self, bits: int, at: int) -> None:
        self.likes.append((bits, at))
        if len(self.likes) == 2 * MAX_LIKES:
            self.likes = sorted(self.likes, key=lambda it: (it[1], it[0]))[-MAX_LIKES:]

    def take_back(self, offset: int, item: int) -> Reversible | None:
        """Takes back the newest purchase of the item."""
        same = [it for it in self.reversibles if it.item == item and not it.taken_back]
        if not same:
            self.tallies["refund_without_purchase"] += 1
            return None
        held = sorted(same, key=_at)[-1]
        self._gone(offset, held)
        return held

    def _gone(self, offset: int, held: Reversible) -> None:
        held.taken_back, held.pending = True, 0
        self.taken.append((held.identity, held.item, held.at))
        self.release(offset, held)
        self.back(offset, held)
        self.pay(offset, held, -1)

    def adopt(self, offset: int, of: str, moved: Reversible) -> None:
        """Takes in what came from an anonymous id, or a second record of one order."""
        slot = moved.conversion
        if slot is not None:
            theirs = () if slot.of else slot.units
            moved.conversion = replace(slot, of=slot.of or of, units=theirs)
        own = self.held(moved.identity, moved.item)
        if own is None:
            self.hold(moved)
            return
        if moved.taken_back:
            if not own.taken_back:
                self._gone(offset, own)
            return
        if own.taken_back:
            self.release(offset, moved)
            self.pay(offset, moved, -1)
            return
        if own.currency:
            self.pay(offset, moved, -1)
        else:
            own.amount, own.currency, own.quantity = moved.amount, moved.currency, moved.quantity
        mine = own.conversion
        if moved.conversion is None:
            return
        if mine is None or (mine.state in INFERRED and moved.conversion.state == CONVERTED):
            self.release(offset, own)
            own.conversion, own.pending = moved.conversion, 0
        else:
            self.release(offset, moved)

    def count(
        self, offset: int, holder: Holder, units: list[UnitKey] | tuple[UnitKey, ...],
        gained: dict[int, int],
    ) -> None:  # fmt: skip
        """Adds to the counts of units, by state."""
        for unit in units:
            variant, before = holder.units[unit]
            after = tuple(max(0, n + gained.get(state, 0)) for state, n in enumerate(before))
            if after != before:
                self.moments.append((offset, *unit, variant, before, after))
                holder.units[unit] = variant, after

    def holders(self) -> list[tuple[str, Holder]]:
        return [("", self.own), *self.guests.items()]

    def holder(self, of: str) -> Holder | None:
        return dict(self.holders()).get(of)
