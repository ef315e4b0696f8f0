"""Python's collection of reference cycles, where there are many objects and hardly any cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MIN_NEW_OBJECTS: Final = 200_000


@contextmanager
def rare_collection() -> Iterator[None]:
    """Looks for cycles after `MIN_NEW_OBJECTS` new objects, not 700: a fold keeps many objects for long and
    makes many for a moment, and Python's default costs it a tenth."""
    before = gc.get_threshold()
    gc.set_threshold(MIN_NEW_OBJECTS, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
