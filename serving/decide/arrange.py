"""From an order to a slate: greedy by score under the caps, one fresh item, at most one slot drawn.

One sequential sampler: a slot is drawn from what the caps allow beside the ones before it, with the
probability that is logged. Nothing re-orders after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from math import floor
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import exploration
from models.arrays import Mask

HEAD_SLOTS: Final = 10
"""The caps hold among the first so many."""
CATEGORY_CAP: Final = "category_cap"
OWNER_CAP: Final = "owner_cap"
FRESH: Final = "fresh"
PLACES_PER_CHUNK: Final = 50
_NO_CAP: Final = 1 << 30

Ints = NDArray[np.integer]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Candidates:
    """Those who wait for a slot: `order` holds their places, best first; the rest is by place.

    `category` and `owner` are numbers; 0 is none, and none is not one: no cap counts it.
    """

    order: Places
    category: Ints
    owner: Ints
    fresh: Mask | None = None
    """Of whom one has to be in the slate; None: there is no such rule."""
    served: NDArray[np.float64] | None = None
    """How often each was served: the last slot is drawn. None: it is not."""


@dataclass(frozen=True)
class Limits:
    """`category` and `owner`: most of one in the head; `lifted`: the category cap does not apply, and
    that is reported. `epsilon` and `seed` of the draw."""

    category: int
    owner: int = _NO_CAP
    lifted: bool = False
    epsilon: float = 0.0
    seed: int = 0


class Arranged(NamedTuple):
    """`places` of the candidates taken, in order. `relaxed`: the rules that were lifted for them.
    `held`: how many each cap held back. `fresh`: somebody is, in a slot that was not drawn, or nobody
    has to be. `drawn`: of the last slot, where it was drawn."""

    places: list[int]
    relaxed: tuple[str, ...]
    held: Mapping[str, int]
    fresh: bool
    drawn: exploration.Draw | None


def cap(share: float, count: int) -> int:
    """Most items of one kind among the first min(10, count).

    >>> cap(0.3, 10), cap(0.3, 5), cap(0.3, 2)
    (3, 1, 1)
    """
    return max(1, floor(share * min(HEAD_SLOTS, count) + 1e-9))


def arrange(line: Candidates, count: int, limits: Limits) -> Arranged:
    """At most `count` places of `line`.

    Where the candidates run out before the head is full, those that a cap held back come in, in their
    order, and that cap is reported as relaxed. Where nobody fresh got in, the best who fits takes the
    last slot that is not drawn; if none fits, `FRESH` is reported. The last slot of a page of two or
    more is drawn where `line.served` says so: among all who fit there, those served least against the
    greedy choice (`models.exploration`).
    """
    slate = _Slate(line, count, limits)
    fixed = count - 1 if line.served is not None and count > 1 else count
    slate.fill(fixed)
    fresh = slate.freshen()
    drawn = slate.draw() if fixed < count and len(slate.places) == fixed else None
    return Arranged(slate.places, slate.relaxed, slate.held, fresh, drawn)


class _Slate:
    def __init__(self, line: Candidates, count: int, limits: Limits) -> None:
        self.line, self.limits = line, limits
        self.head = min(HEAD_SLOTS, count)
        self.most = (_NO_CAP if limits.lifted else limits.category, limits.owner)
        self.places: list[int] = []
        self.held = {CATEGORY_CAP: 0, OWNER_CAP: 0}
        self._stale = False

    @property
    def relaxed(self) -> tuple[str, ...]:
        alike, own = self._full(self.head, 1)
        return tuple(
            rule
            for rule, broken in (
                (CATEGORY_CAP, self.limits.lifted or alike),
                (OWNER_CAP, own),
                (FRESH, self._stale),
            )
            if broken
        )

    def fill(self, to: int) -> None:
        """The greedy choice for the first `to` slots."""
        most_alike, most_own = self.most
        alike: dict[int, int] = {}
        own: dict[int, int] = {}
        waiting: list[int] = []
        head, rest = min(self.head, to), _in_order(self.line)
        for place, category, owner in rest:
            if category and alike.get(category, 0) >= most_alike:
                self.held[CATEGORY_CAP] += 1
                waiting.append(place)
            elif owner and own.get(owner, 0) >= most_own:
                self.held[OWNER_CAP] += 1
                waiting.append(place)
            else:
                alike[category] = alike.get(category, 0) + 1
                own[owner] = own.get(owner, 0) + 1
                self.places.append(place)
                if len(self.places) == head:
                    break
        # those held back score higher than whatever is left
        more = chain(waiting, (place for place, _, _ in rest))
        self.places += islice(more, to - len(self.places))

    def freshen(self) -> bool:
        """Somebody fresh in the last slot so far, where none got in. Whether all is well then."""
        fresh, order = self.line.fresh, self.line.order
        if fresh is None or fresh[self.places].any():
            return True
        able = (
            order[(self._fits(len(self.places) - 1) & fresh)[order]] if fresh.any() else order[:0]
        )
        if len(able):
            self.places[-1] = int(able[0])
        self._stale = bool(fresh.any()) and not len(able)
        return len(able) > 0

    def draw(self) -> exploration.Draw | None:
        """The next slot, drawn; the greedy choice where nobody fits."""
        served, order = self.line.served, self.line.order
        able = self._fits(len(self.places))
        if served is None or not able.any():
            left = order[~np.isin(order, self.places)][:1]
            self.places += left.tolist()
            return None
        least = np.flatnonzero(able & (served == served[able].min()))
        greedy = int(order[able[order].argmax()])
        drawn = exploration.draw(self.limits.seed, self.limits.epsilon, greedy, least)
        self.places.append(drawn.choice)
        return drawn

    def _fits(self, n: int) -> Mask:
        """(k,) who may have slot n (from 0), beside those in the slots before it."""
        fits = np.ones(len(self.line.order), np.bool_)
        fits[self.places[:n]] = False
        if n < self.head:
            alike, own = self._full(n)
            for numbers, full in ((self.line.category, alike), (self.line.owner, own)):
                for number in full:
                    fits &= numbers != number
        return fits

    def _full(self, n: int, over: int = 0) -> tuple[list[int], list[int]]:
        """Categories and owners that the first n slots hold as often as is allowed, and `over`."""
        (most_alike, most_own), before = self.most, self.places[:n]
        alike = Counter(self.line.category[before].tolist())
        own = Counter(self.line.owner[before].tolist())
        return (
            [kind for kind, held in alike.items() if kind and held >= most_alike + over],
            [kind for kind, held in own.items() if kind and held >= most_own + over],
        )


def _in_order(line: Candidates) -> Iterator[tuple[int, int, int]]:
    """Place, category and owner of each, best first; most slates need but a few."""
    for at in range(0, len(line.order), PLACES_PER_CHUNK):
        places = line.order[at : at + PLACES_PER_CHUNK]
        yield from zip(
            places.tolist(),
            line.category[places].tolist(),
            line.owner[places].tolist(),
            strict=True,
        )
