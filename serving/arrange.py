"""From an order to a slate: greedy by score, under the category cap. Nothing re-orders after it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from math import floor
from typing import Final, NamedTuple

HEAD: Final = 10
"""The cap holds among the first so many."""
CATEGORY_CAP: Final = "category_cap"


class Arranged(NamedTuple):
    """`places` of the candidates taken, in order, and the rules that were lifted for them."""

    places: list[int]
    relaxed: tuple[str, ...]


def cap(share: float, count: int) -> int:
    """Most items of one primary category among the first min(10, count).

    >>> cap(0.3, 10), cap(0.3, 5), cap(0.3, 2)
    (3, 1, 1)
    """
    return max(1, floor(share * min(HEAD, count) + 1e-9))


def arrange(
    order: Iterable[tuple[int, int]], count: int, share: float, *, lifted: bool = False
) -> Arranged:
    """`order` yields (place, number of its primary category), best first; category 0 is none, and
    none is not one: the cap leaves it alone.

    Where the candidates run out before the head is full, those that the cap held back come in, in
    their order, and the cap is reported as relaxed. `lifted`: it does not apply, and is reported.
    """
    rest = iter(order)
    if lifted:
        return Arranged([place for place, _ in islice(rest, count)], (CATEGORY_CAP,))
    most, head = cap(share, count), min(HEAD, count)
    taken: list[int] = []
    waiting: list[int] = []
    used: dict[int, int] = {}
    for place, category in rest:
        if category and used.get(category, 0) >= most:
            waiting.append(place)
            continue
        used[category] = used.get(category, 0) + 1
        taken.append(place)
        if len(taken) == head:
            break
    ran_out = len(taken) < head and bool(waiting)
    # those held back score higher than whatever is left
    more = chain(waiting, (place for place, _ in rest))
    taken += islice(more, count - len(taken))
    return Arranged(taken, (CATEGORY_CAP,) if ran_out else ())
