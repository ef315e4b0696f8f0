"""From a slot to a place in a short list, in time of the lists alone, never of the catalogue."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import Mask
from models.memberships import Slots

Places = NDArray[np.intp]

_FREE: Final[list[NDArray[np.int32]]] = []
"""Arrays by slot, of -1: a call takes one, writes into it and clears what it wrote."""


def last_places(listed: Slots, slots: Slots, capacity: int) -> Places:
    """(n,) the last place in `listed` (m,) of each of `slots` (n,); -1 where it is not among them. All slots
    are below `capacity`."""
    places = _taken(capacity)
    places[listed] = np.arange(len(listed), dtype=np.int32)  # of equal slots the last one stays
    found: Places = places.take(slots).astype(np.intp)
    places[listed] = -1
    _FREE.append(places)
    return found


def among(listed: Slots, slots: Slots, capacity: int) -> Mask:
    """(n,) which of `slots` are listed."""
    places = _taken(capacity)
    places[listed] = 0
    found: Mask = places.take(slots) == 0
    places[listed] = -1
    _FREE.append(places)
    return found


def _taken(capacity: int) -> NDArray[np.int32]:
    """An array of `capacity` or more that nobody else writes to."""
    try:
        places = _FREE.pop()
    except IndexError:
        places = np.empty(0, np.int32)
    return places if len(places) >= capacity else np.full(capacity, -1, np.int32)
