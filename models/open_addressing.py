"""Open addressing: from a hash to a number, without an object a hash.

`places` (a power of two,) holds numbers, 0 where a place is free. A number lies at the place of its hash
(``hash & mask``), or at the first free one after that; ``hashes[number]`` is its hash. Nothing is ever taken
out, so what is looked for lies before the first free place.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int32]
FEW: Final = 16
"""So many are looked up one by one."""


def made(hashes: NDArray[np.uint64], size: int) -> Numbers:
    """`size` (a power of two) places with the numbers from 1 of `hashes` (n,), which are distinct."""
    places = np.zeros(size, np.int32)
    numbers = np.arange(1, len(hashes), dtype=np.int32)
    at = _first(hashes[1:], size - 1)
    while len(numbers):
        free = places[at] == 0
        places[at[free]] = numbers[free]  # of several at one place the last one written has it
        homeless = places[at] != numbers
        numbers, at = numbers[homeless], at[homeless] + 1 & size - 1
    return places


def put(places: Numbers, value: int, number: int) -> None:
    """Adds the number of the hash `value`, which has none yet."""
    mask = len(places) - 1
    at = value & mask
    while places[at]:
        at = at + 1 & mask
    places[at] = number


def find(places: Numbers, hashes: NDArray[np.uint64], value: int) -> int:
    """The number of the hash `value`; 0 where it has none."""
    mask = len(places) - 1
    at = value & mask
    while (number := places.item(at)) and hashes.item(number) != value:
        at = at + 1 & mask
    return number


def locate(places: Numbers, hashes: NDArray[np.uint64], values: NDArray[np.uint64]) -> Numbers:
    """(n,) the number of each hash of `values` (n,); 0 where it has none."""
    mask = len(places) - 1
    at = _first(values, mask)
    numbers: Numbers = places.take(at)
    missed = np.flatnonzero(hashes.take(numbers) != values)
    if len(missed) <= FEW:
        for place in missed[numbers[missed] != 0].tolist():
            numbers[place] = find(places, hashes, values.item(place))
        return numbers
    missed = missed[numbers[missed] != 0]
    at = at[missed]
    while len(missed):  # their place holds another: on to the next
        at = at + 1 & mask
        found = places[at]
        numbers[missed] = found
        again = (hashes[found] != values[missed]) & (found != 0)
        missed, at = missed[again], at[again]
    return numbers


def _first(values: NDArray[np.uint64], mask: int) -> NDArray[np.intp]:
    """(n,) the place of each hash itself."""
    return (values & np.uint64(mask)).astype(np.intp)
