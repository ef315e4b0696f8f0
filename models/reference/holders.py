"""The open slates of one id, its units and its touched slots, by plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import calcsize, iter_unpack, pack
from typing import NamedTuple

from models.outcomes import open_slates
from models.outcomes.open_slates import Account
from models.outcomes.touched import MAX_UNIT_SETS, Reach
from models.outcomes.waiting import MAX_OPEN_SLATES
from models.reference import plain
from schemas.events import Assigned

UnitKey = tuple[int, int]
"""Experiment and version."""
CONVERTED, LAST_CLICK, LAST_VIEW = 3, 4, 5
INFERRED = {LAST_CLICK, LAST_VIEW}
_MAX_VERSION = 0xFFFF
_TOUCHED = "<QIIIHBB"


class ReferenceSlate(NamedTuple):
    """An open slate. `states`: of each item the states into which it came."""

    id: int
    at: int
    placement: int
    items: list[int]
    places: dict[int, int]
    """Index of each item in `items`."""
    states: list[set[int]]
    explored: int
    """Index of the item that exploration drew, -1: none."""
    units: list[UnitKey]


class TouchedSlot(NamedTuple):
    """A slot that was clicked or displayed, at `at` (s). `slate`: the low half of its id."""

    at: int
    slate: int
    item: int
    placement: int
    units: tuple[UnitKey, ...]
    states: frozenset[int]
    explored: bool


class Holder:
    """The open slates of one id, by time and id, its units (variant and counts of each), and the slots that
    it touched, by (at, slate, item)."""

    def __init__(self) -> None:
        self.slates: list[ReferenceSlate] = []
        self.units: dict[UnitKey, tuple[int, tuple[int, ...]]] = {}
        self.newest = 0
        self.touched: list[TouchedSlot] = []
        self.sets: list[tuple[UnitKey, ...]] = []

    def take(self, slate: ReferenceSlate) -> None:
        self.slates = sorted([*self.slates, slate], key=lambda held: (held.at, held.id))
        self.newest = max(self.newest, slate.at)

    def drop(self, oldest: int) -> None:
        self.slates = [slate for slate in self.slates if slate.at >= oldest][-MAX_OPEN_SLATES:]

    def enrolled(self, experiments: Iterable[Assigned]) -> list[UnitKey]:
        """The id's units in these experiments; a unit keeps its first variant."""
        found: dict[UnitKey, None] = {}
        for each in experiments:
            if 0 <= each.version <= _MAX_VERSION:
                unit = (plain.name(each.experiment), each.version)
                self.units.setdefault(unit, (plain.name(each.variant), (0,) * 6))
                found[unit] = None
        return list(found)

    def touch(self, slot: TouchedSlot, reach: Reach) -> None:
        if slot.units not in self.sets:
            if len(self.sets) >= MAX_UNIT_SETS:
                named = {held.units for held in self.touched}
                self.sets = [units for units in self.sets if units in named]
            self.sets.append(slot.units)
        for held in [held for held in self.touched if held[1:3] == slot[1:3]]:
            self.touched.remove(held)
            if 2 in held.states:
                slot = slot._replace(at=held.at)
        kept = sorted([*self.touched, slot])[-reach.slots :]
        oldest = kept[-1].at - reach.window_ms // 1000
        self.touched = [held for held in kept if held.at >= oldest]

    def change(self, slate: int, item: int, on: set[int], off: set[int]) -> None:
        """Changes the states of a slot, wherever it is held."""
        self.touched = [
            held._replace(states=(held.states | on) - off) if held[1:3] == (slate, item) else held
            for held in self.touched
        ]
        for open_ in self.slates:
            if open_.id & 0xFFFF_FFFF == slate and item in open_.places:
                open_.states[open_.places[item]].update(on)
                open_.states[open_.places[item]].difference_update(off)

    @classmethod
    def of(cls, held: Account | open_slates.Guest) -> Holder:
        """The stored slates and units of an account or guest."""
        made = cls()
        made.newest = held.newest
        made.units = {(it.experiment, it.version): (it.variant, it.counts) for it in held.units}
        units = list(made.units)
        made.slates = [_opened(slate, units) for slate in held.slates]
        made.sets = [tuple(units[place] for place in places) for places in held.unit_sets]
        made.touched = touched_of(held.touched, made.sets)
        return made

    def stored_slates(self) -> list[open_slates.OpenSlate]:
        places = {unit: place for place, unit in enumerate(self.units)}
        return [_stored(slate, places) for slate in self.slates]

    def stored_units(self) -> list[open_slates.Unit]:
        return [
            open_slates.Unit(*unit, variant, counts)  # type: ignore[arg-type]
            for unit, (variant, counts) in self.units.items()
        ]

    def stored_touched(self) -> bytes:
        return b"".join(
            pack(
                _TOUCHED, held.item, held.at, held.placement, held.slate,
                self.sets.index(held.units), bits(held.states), held.explored,
            )
            for held in self.touched
        )  # fmt: skip

    def stored_sets(self) -> list[tuple[int, ...]]:
        places = {unit: place for place, unit in enumerate(self.units)}
        return [tuple(places[unit] for unit in units) for units in self.sets]


def touched_of(data: bytes, sets: Sequence[tuple[UnitKey, ...]]) -> list[TouchedSlot]:
    """The stored rows of touched slots. Errors: ValueError for bytes that are no rows."""
    if len(data) % calcsize(_TOUCHED):
        raise ValueError("these are no touched slots")
    return [
        TouchedSlot(at, slate, item, placement, sets[units], frozenset(states_of(its)), bool(drawn))
        for item, at, placement, slate, units, its, drawn in iter_unpack(_TOUCHED, data)
    ]


def states_of(number: int) -> set[int]:
    return {state for state in range(6) if number >> state & 1}


def bits(states: Iterable[int]) -> int:
    return sum(1 << state for state in states)


def _stored(slate: ReferenceSlate, places: dict[UnitKey, int]) -> open_slates.OpenSlate:
    return open_slates.OpenSlate(
        slate.id,
        slate.at,
        slate.placement,
        pack(f"<{len(slate.items)}Q", *slate.items),
        bytearray(map(bits, slate.states)),
        slate.explored,
        tuple(places[unit] for unit in slate.units),
    )


def _opened(slate: open_slates.OpenSlate, units: Sequence[UnitKey]) -> ReferenceSlate:
    """The inverse of `_stored`."""
    items = [item for (item,) in iter_unpack("<Q", slate.items)]
    return ReferenceSlate(
        slate.id,
        slate.at,
        slate.placement,
        items,
        {item: place for place, item in enumerate(items)},
        [states_of(held) for held in slate.states],
        slate.explored,
        [units[place] for place in slate.units],
    )
