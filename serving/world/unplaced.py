"""Published rows of items that the catalogue in process lacks: they wait for it, by hash and bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.state import tables

MAX_ROWS: Final = 10_000
"""Of each kind; the oldest go. Such an item has its rows again once they are published anew, or after a
restart."""
Value = TypeVar("Value")


class WaitingRows(NamedTuple):
    """What waits for one item: `neighbours` and `popularity` as published, None where there is none;
    `served`: by placement. `owners`: slots of lists that name it, as published."""

    neighbours: bytes | None
    popularity: bytes | None
    served: dict[int, int]
    owners: list[tuple[int, bytes]]


class Unplaced:
    """WaitingRows by item hash."""

    def __init__(self) -> None:
        self._neighbours: OrderedDict[int, bytes] = OrderedDict()
        self._popularity: OrderedDict[int, bytes] = OrderedDict()
        self._served: OrderedDict[int, dict[int, int]] = OrderedDict()
        self._incomplete: OrderedDict[int, bytes] = OrderedDict()
        """Slot -> its list, which names an item that is missing."""
        self._named_in: OrderedDict[int, set[int]] = OrderedDict()
        """Missing item -> slots whose lists name it."""

    def clear(self) -> None:
        for held in (self._neighbours, self._popularity, self._served):
            held.clear()
        self._incomplete.clear()
        self._named_in.clear()

    def keep_neighbours(self, item: int, value: bytes) -> None:
        _keep(self._neighbours, item, value)

    def keep_popularity(self, item: int, value: bytes) -> None:
        _keep(self._popularity, item, value)

    def keep_served(self, item: int, placement: int, served: int) -> None:
        counts = self._served.get(item, {})
        counts[placement] = served
        _keep(self._served, item, counts)

    def complete(self, owners: NDArray[np.int32]) -> None:
        """The lists of these slots name no missing item any more."""
        if self._incomplete:
            for owner in owners.tolist():
                self._incomplete.pop(owner, None)

    def keep_incomplete(self, owner: int, value: bytes, slots: NDArray[np.int32]) -> None:
        """`slots` of the list's items, 0 where one is missing."""
        missing = tables.neighbours(value)["item"][slots == 0].tolist()
        if not missing:
            self._incomplete.pop(owner, None)
            return
        _keep(self._incomplete, owner, value)
        for item in missing:
            named = self._named_in.get(item, set())
            named.add(owner)
            _keep(self._named_in, item, named)

    def take(self, item: int) -> WaitingRows:
        """What waits for the item, which waits no longer."""
        owners = sorted(self._named_in.pop(item, ()))
        return WaitingRows(
            self._neighbours.pop(item, None),
            self._popularity.pop(item, None),
            self._served.pop(item, {}),
            [(it, self._incomplete[it]) for it in owners if it in self._incomplete],
        )


def _keep(held: OrderedDict[int, Value], key: int, value: Value) -> None:
    held[key] = value
    if len(held) > MAX_ROWS:
        held.popitem(last=False)
