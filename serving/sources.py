"""SOURCES: where candidates come from. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.case import Case, Numbers
from serving.catalogue import Slots
from serving.tables import Neighbours


class Drawn(NamedTuple):
    """(m,) items a source brings, with a value each (0 where it has none to say), and which entry
    of `case.interest` brought it. One item may come several times: its values add up, in order."""

    slots: Slots
    values: Numbers
    by: NDArray[np.intp]


class Source(NamedTuple):
    """`draw(case, depth)`: about `depth` candidates, in an order that no slot number decides."""

    name: str
    draw: Callable[[Case, int], Drawn]


NEAREST: Final = 100
"""Most that content brings: beyond them likeness says little, and each costs."""
ALONE: Final = Neighbours(np.empty(0, np.int32), np.empty(0, np.float32))
NOTHING: Final = Drawn(np.empty(0, np.int32), np.empty(0), np.empty(0, np.intp))


def covisit(case: Case, depth: int) -> Drawn:
    """The published neighbours of what speaks for the person: score x weight of the entry."""
    lists = case.world.tables.neighbours
    found = [lists.get(slot, ALONE) for slot in case.interest.slots.tolist()]
    if not found:
        return NOTHING
    slots = np.concatenate([listed[0] for listed in found])
    scores = np.concatenate([listed[1] for listed in found])
    by = np.arange(len(found)).repeat([len(listed[0]) for listed in found])
    return Drawn(slots, scores * case.interest.weights[by], by)


def content(case: Case, depth: int) -> Drawn:
    """The items nearest to the person's vector, by cosine."""
    if not len(case.interest.slots):
        return NOTHING
    found = case.world.index.search(case.vector, min(depth, NEAREST))
    nobody = np.zeros(len(found.slots), np.intp)
    return Drawn(found.slots, found.similarity.astype(np.float64), nobody)


def popular(case: Case, depth: int) -> Drawn:
    """The most popular items (of the category asked for), then the newest."""
    slots = case.world.tables.popular(case.window)
    if case.category is not None:
        slots = slots[case.world.items.category[slots] == case.category]
    slots = slots[:depth]
    return Drawn(slots, np.zeros(len(slots)), np.zeros(len(slots), np.intp))


SOURCES: Final = (
    Source("covisit", covisit),
    Source("content", content),
    Source("popular", popular),
)


class Pool(NamedTuple):
    """n candidates, each once. `drawn[source]` what it brought, and `numbers[source]` (m,) the
    candidate that each of these became."""

    slots: Slots
    drawn: dict[str, Drawn]
    numbers: dict[str, NDArray[np.intp]]

    def sums(self, source: str) -> Numbers:
        """(n,) the values of what a source brought, added up."""
        sums = np.bincount(self.numbers[source], self.drawn[source].values, len(self.slots))
        return sums.astype(np.float64, copy=False)

    def provenance(self, candidates: list[int]) -> list[tuple[str, ...]]:
        """The sources that brought each of these."""
        bits = np.zeros(len(self.slots), np.uint8)
        for bit, numbers in enumerate(self.numbers.values()):
            bits[numbers] |= 1 << bit
        names = list(self.numbers)
        return [
            tuple(name for bit, name in enumerate(names) if held >> bit & 1)
            for held in bits[candidates].tolist()
        ]


def retrieve(case: Case, depth: int) -> Pool:
    """What all sources bring, together: those with a weight, and the popular to fall back on."""
    weights = case.world.weights
    drawn = {
        source.name: source.draw(case, depth)
        for source in SOURCES
        if weights.get(source.name) or source.name == "popular"
    }
    slots = np.concatenate([part.slots for part in drawn.values()])
    own, numbers = _once(slots, len(case.world.items.hash))
    pool = Pool(slots[own], drawn, {})
    at = 0
    for name, part in drawn.items():
        pool.numbers[name] = numbers[at : at + len(part.slots)]
        at += len(part.slots)
    return pool


def _once(slots: Slots, capacity: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """(m,) mask of one entry per distinct slot, and the number of each entry's one among them.

    Without a sort: each entry writes its place under its slot, and the last one written stays.
    """
    places = np.arange(len(slots), dtype=np.int32)
    last = np.empty(capacity, np.int32)
    last[slots] = places
    held = last[slots]
    own = held == places
    return own, (own.cumsum() - 1)[held]
