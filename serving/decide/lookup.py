"""From a slot to a place in a short list, in time and memory of the lists alone, never of the catalogue."""

from __future__ import annotations

import threading

import numpy as np

from serving.decide.pool import Places
from serving.world.catalogue import Mask, Slots


class _Scratch(threading.local):
    """Of each thread: by slot the place that was written last; what lies in it between two calls is
    undefined."""

    def __init__(self) -> None:
        self.places = np.zeros(1024, np.intp)


_SCRATCH = _Scratch()


def last_places(listed: Slots, slots: Slots, capacity: int) -> Places:
    """(n,) the last place in `listed` (m,) of each of `slots` (n,); -1 where it is not among them. All slots
    are below `capacity`."""
    places = _SCRATCH.places
    if len(places) < capacity:
        places = _SCRATCH.places = np.zeros(capacity, np.intp)
    places[slots] = -1
    places[listed] = np.arange(len(listed))  # of equal slots the last one assigned stays
    found: Places = places[slots]
    return found


def among(listed: Slots, slots: Slots, capacity: int) -> Mask:
    """(n,) which of `slots` are listed."""
    return last_places(listed, slots, capacity) >= 0
