"""The slots of one person's slates as outcomes reach them, by plain lists of slates."""

from __future__ import annotations

from collections import Counter

from models.outcomes.open_slates import Conversion, Reversible
from models.outcomes.slots import WINDOW_MS
from models.outcomes.touched import Reach
from models.outcomes.waiting import MAX_OPEN_SLATES, MAX_WAITING_OUTCOMES
from models.reference.conversions import Conversions
from models.reference.holders import CONVERTED, INFERRED, ReferenceSlate, TouchedSlot
from models.reference.outcome_records import OutcomeRow


class Joined(Conversions):
    """`waiting`: outcomes by the slate that they wait for; `lost`: outcomes that do not count, without
    repeated ones."""

    def __init__(self, reach: Reach) -> None:
        super().__init__(reach)
        self.waiting: list[tuple[int, list[OutcomeRow]]] = []
        self.lost = 0

    def _find(self, slate: int) -> tuple[str, ReferenceSlate] | None:
        for of, holder in self.holders():
            for held in holder.slates:
                if held.id == slate:
                    return of, held
        return None

    def _act(self, offset: int, slate: int, mark: OutcomeRow) -> None:
        if found := self._find(slate):
            self._mark(offset, *found, [mark])
        else:
            self._wait(slate, mark)
            self._forget()

    def _wait(self, slate: int, mark: OutcomeRow) -> None:
        held = dict(self.waiting).get(slate)
        if held is None:
            self.waiting.append((slate, held := []))
        same = [m for m in held if m[:2] == mark[:2]]
        if same:
            held[held.index(same[0])] = (*mark[:2], min(same[0][2], mark[2]), same[0][3])
        elif len(held) < MAX_WAITING_OUTCOMES:
            held.append(mark)
        else:
            self.lost += 1

    def _awaited(self, slate: int) -> list[OutcomeRow]:
        """Removes and gives the outcomes that waited for this slate."""
        held = dict(self.waiting).get(slate, [])
        self.waiting = [group for group in self.waiting if group[0] != slate]
        return held

    def _mark(self, offset: int, of: str, slate: ReferenceSlate, marks: list[OutcomeRow]) -> None:
        holder, gained = self.holder(of), Counter[int]()
        assert holder is not None
        for item, state, at, identity in marks:
            place = slate.places.get(item)
            if place is None or at - slate.at > WINDOW_MS:
                self.lost += 1
                continue
            states, held = slate.states[place], self.held(identity, item) if identity else None
            direct = held and held.conversion and held.conversion.state == CONVERTED
            if state in states or direct or (held and held.taken_back):
                continue
            if state == CONVERTED:
                self._take_over(offset, of, slate, item, held)
            states.add(state)
            gained[state] += 1
            explored, reward = int(place == slate.explored), float(state == 2)
            self.arms.append((offset, slate.placement, item, state, explored, 1, reward))
            low = slate.id & 0xFFFF_FFFF
            if state in (1, 2):
                new = TouchedSlot(
                    at // 1000, low, item, slate.placement, tuple(slate.units), frozenset(states),
                    bool(explored),
                )  # fmt: skip
                holder.touch(new, self.reach)
            else:
                holder.change(low, item, {state}, set())
        self.count(offset, holder, slate.units, gained)
        if any(gained[state] for state in range(1, 6)):
            self.settle(offset)

    def _take_over(
        self, offset: int, of: str, slate: ReferenceSlate, item: int, held: Reversible | None
    ) -> None:
        """Gives a slot to a purchase that names its slate."""
        holder, place = self.holder(of), slate.places[item]
        assert holder is not None
        units = tuple(list(holder.units).index(unit) for unit in slate.units)
        low, explored = slate.id & 0xFFFF_FFFF, place == slate.explored
        for state in slate.states[place] & INFERRED:
            its = Conversion(of, low, slate.placement, explored, state, units)
            self.take_slot(offset, item, its)
        if held is not None:
            self.release(offset, held)
            held.conversion = Conversion(of, low, slate.placement, explored, CONVERTED, units)
            held.pending = 0

    def _forget(self) -> None:
        self.own.drop(self.own.newest - WINDOW_MS)
        newest = max([self.own.newest, *(guest.newest for guest in self.guests.values())])
        oldest = newest - WINDOW_MS
        for guest in self.guests.values():
            guest.drop(oldest)
        if not self.waiting:
            return
        before = sum(len(held) for _, held in self.waiting)
        kept = [(slate, [m for m in held if m[2] >= oldest]) for slate, held in self.waiting]
        self.waiting = [(slate, held) for slate, held in kept if held][-MAX_OPEN_SLATES:]
        self.lost += before - sum(len(held) for _, held in self.waiting)
