"""From an order to a slate: greedy by score under the caps, one fresh item, at most one slot drawn.

One sequential sampler: a slot is drawn from the candidates that the caps allow beside the slots before it.
The probability of the draw is logged, and nothing re-orders after it.
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
"""The caps hold within these first slots."""
CATEGORY_CAP: Final = "category_cap"
OWNER_CAP: Final = "owner_cap"
FRESH: Final = "fresh"
PLACES_PER_CHUNK: Final = 50
_NO_CAP: Final = 1 << 30

Ints = NDArray[np.integer]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Candidates:
    """k candidates: `order` holds their places, best first; the other columns (k,) are by place.

    `category` and `owner` are numbers. 0 means none: no cap counts it.
    """

    order: Places
    category: Ints
    owner: Ints
    fresh: Mask | None = None
    """The candidates of which one has to be in the slate; None: there is no such rule."""
    served: NDArray[np.float64] | None = None
    """How often each was served, where the last slot is drawn: the least served is; inf: never drawn. None:
    the slot is not drawn."""


@dataclass(frozen=True)
class Limits:
    """`category` and `owner`: most items of one category and of one owner in the head. `lifted`: the category
    cap does not apply, and `relaxed` reports it. `epsilon` and `seed` are those of the draw."""

    category: int
    owner: int = _NO_CAP
    lifted: bool = False
    epsilon: float = 0.0
    seed: int = 0


class Arranged(NamedTuple):
    """`places` of the candidates taken, in order. `relaxed`: the rules that were lifted for them.
    `held`: how many candidates each cap held back. `fresh`: a fresh item has a slot that was not drawn, or
    there is no such rule. `drawn`: the draw of the last slot; None where it was not drawn. `swapped`: the
    places that the fresh rule or the draw put where the greedy choice was another."""

    places: list[int]
    relaxed: tuple[str, ...]
    held: Mapping[str, int]
    fresh: bool
    drawn: exploration.Draw | None
    swapped: tuple[int, ...] = ()


def cap(share: float, count: int) -> int:
    """Most items of one kind among the first min(10, count).

    >>> cap(0.3, 10), cap(0.3, 5), cap(0.3, 2)
    (3, 1, 1)
    """
    return max(1, floor(share * min(HEAD_SLOTS, count) + 1e-9))


def arrange(candidates: Candidates, count: int, limits: Limits) -> Arranged:
    """At most `count` places of `candidates`.

    Where the candidates run out before the head is full, those that a cap held back fill it in their
    order, and that cap is reported as relaxed. Where no fresh item got in, the best one that fits takes the
    last slot that is not drawn; if none fits, `FRESH` is reported. Where `candidates.served` is given, the
    last slot of two or more is drawn among the candidates that fit: the least served of them against the
    greedy choice (`models.exploration`).
    """
    slate = _Slate(candidates, count, limits)
    fixed = count - 1 if candidates.served is not None and count > 1 else count
    slate.fill(fixed)
    fresh = slate.freshen()
    drawn = slate.draw() if fixed < count and len(slate.places) == fixed else None
    swapped = tuple(slate.swapped)
    return Arranged(slate.places, slate.relaxed, slate.held, fresh, drawn, swapped)


def extended(
    arranged: Arranged,
    places: list[int],
    candidates: Candidates,
    count: int,
    limits: Limits,
    rule: str,
) -> Arranged:
    """The slate after `rule` was relaxed for more of it: `places` are all its places in `candidates`."""
    slate = _Slate(candidates, count, limits)
    slate.places = places
    before = [each for each in arranged.relaxed if each not in slate.relaxed]
    return arranged._replace(places=places, relaxed=(*slate.relaxed, *before, rule))


class _Slate:
    def __init__(self, candidates: Candidates, count: int, limits: Limits) -> None:
        self.candidates, self.limits = candidates, limits
        self.head = min(HEAD_SLOTS, count)
        self.caps = (_NO_CAP if limits.lifted else limits.category, limits.owner)
        self.places: list[int] = []
        self.swapped: list[int] = []
        self.held = {CATEGORY_CAP: 0, OWNER_CAP: 0}
        self._no_fresh_fits = False

    @property
    def relaxed(self) -> tuple[str, ...]:
        by_category, by_owner = self._full(self.head, 1)
        return tuple(
            rule
            for rule, broken in (
                (CATEGORY_CAP, self.limits.lifted or by_category),
                (OWNER_CAP, by_owner),
                (FRESH, self._no_fresh_fits),
            )
            if broken
        )

    def fill(self, slots: int) -> None:
        """The greedy choice for the first `slots` slots."""
        category_cap, owner_cap = self.caps
        by_category: dict[int, int] = {}
        by_owner: dict[int, int] = {}
        held_back: list[int] = []
        head, rest = min(self.head, slots), _best_first(self.candidates)
        for place, category, owner in rest:
            if category and by_category.get(category, 0) >= category_cap:
                self.held[CATEGORY_CAP] += 1
                held_back.append(place)
            elif owner and by_owner.get(owner, 0) >= owner_cap:
                self.held[OWNER_CAP] += 1
                held_back.append(place)
            else:
                by_category[category] = by_category.get(category, 0) + 1
                by_owner[owner] = by_owner.get(owner, 0) + 1
                self.places.append(place)
                if len(self.places) == head:
                    break
        # the candidates held back score higher than the rest
        more = chain(held_back, (place for place, _, _ in rest))
        self.places += islice(more, slots - len(self.places))

    def freshen(self) -> bool:
        """Puts a fresh item into the last slot so far where none got in. False: there is a rule, and no fresh
        item fits."""
        fresh, order = self.candidates.fresh, self.candidates.order
        if fresh is None or fresh[self.places].any():
            return True
        fitting = (
            order[(self._fits(len(self.places) - 1) & fresh)[order]] if fresh.any() else order[:0]
        )
        if len(fitting):
            self.places[-1] = int(fitting[0])
            self.swapped.append(self.places[-1])
        self._no_fresh_fits = bool(fresh.any()) and not len(fitting)
        return len(fitting) > 0

    def draw(self) -> exploration.Draw | None:
        """Draws the next slot; fills it greedily, and gives None, where no candidate that fits is drawn."""
        served, order = self.candidates.served, self.candidates.order
        fitting = self._fits(len(self.places))
        least = served[fitting].min(initial=np.inf) if served is not None else np.inf
        if not np.isfinite(least):
            rest = fitting if fitting.any() else ~np.isin(np.arange(len(order)), self.places)
            self.places += order[rest[order]][:1].tolist()
            return None
        least_served = np.flatnonzero(fitting & (served == least))
        greedy = int(order[fitting[order].argmax()])
        drawn = exploration.draw(self.limits.seed, self.limits.epsilon, greedy, least_served)
        self.places.append(drawn.choice)
        if drawn.choice != greedy:
            self.swapped.append(drawn.choice)
        return drawn

    def _fits(self, n: int) -> Mask:
        """(k,) which candidates may have slot n (from 0), beside those in the slots before it."""
        fits = np.ones(len(self.candidates.order), np.bool_)
        fits[self.places[:n]] = False
        if n < self.head:
            by_category, by_owner = self._full(n)
            for numbers, full in (
                (self.candidates.category, by_category),
                (self.candidates.owner, by_owner),
            ):
                for number in full:
                    fits &= numbers != number
        return fits

    def _full(self, n: int, excess: int = 0) -> tuple[list[int], list[int]]:
        """Categories and owners of which the first n slots hold the cap and `excess` more, or still more."""
        (category_cap, owner_cap), before = self.caps, self.places[:n]
        by_category = Counter(self.candidates.category[before].tolist())
        by_owner = Counter(self.candidates.owner[before].tolist())
        return (
            [kind for kind, held in by_category.items() if kind and held >= category_cap + excess],
            [kind for kind, held in by_owner.items() if kind and held >= owner_cap + excess],
        )


def _best_first(candidates: Candidates) -> Iterator[tuple[int, int, int]]:
    """Place, category and owner of each candidate, best first, in chunks: most slates need but a few."""
    for start in range(0, len(candidates.order), PLACES_PER_CHUNK):
        places = candidates.order[start : start + PLACES_PER_CHUNK]
        yield from zip(
            places.tolist(),
            candidates.category[places].tolist(),
            candidates.owner[places].tolist(),
            strict=True,
        )
