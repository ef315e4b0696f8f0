"""From a slot to a place in a short list, in time and memory of the lists alone, never of the catalogue."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving.world.catalogue import Mask, Slots

Places = NDArray[np.intp]
_FREE: Final[list[Places]] = []
"""By slot the place that was written last; what lies in one between two calls is undefined."""


def last_places(listed: Slots, slots: Slots, capacity: int) -> Places:
    """(n,) the last place in `listed` (m,) of each of `slots` (n,); -1 where it is not among them. All slots
    are below `capacity`."""
    places = _taken(capacity)
    places[slots] = -1
    places[listed] = np.arange(len(listed))  # of equal slots the last one assigned stays
    found: Places = places[slots]
    _FREE.append(places)
    return found


def _taken(capacity: int) -> Places:
    """An array of `capacity` or more that nobody else writes to."""
    try:
        places = _FREE.pop()
    except IndexError:
        places = np.zeros(0, np.intp)
    return places if len(places) >= capacity else np.zeros(capacity, np.intp)


def among(listed: Slots, slots: Slots, capacity: int) -> Mask:
    """(n,) which of `slots` are listed."""
    return last_places(listed, slots, capacity) >= 0
