"""Decisions to compare: random ones, and what makes two of them the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import isclose
from typing import Final, NamedTuple

import numpy as np
from hypothesis import strategies as st

from serving.decide.case import Ask, World
from serving.decide.person import Blobs, Person, decode
from serving.decide.results import Contribution, Decision, Explain, Shown
from tests.support import drawn_asks, drawn_people, drawn_worlds
from tests.support.drawn_worlds import Shape

TOLERANCE: Final = 1e-6
"""Of a score and of an effect, relative; of an effect also relative to the largest beside it."""
EXPLAINS: Final[tuple[Explain, ...]] = ("none", "reason", "full")


class Setting(NamedTuple):
    """The arguments of one decision, the person as the store has them."""

    blobs: Blobs
    world: World
    ask: Ask
    explain: Explain

    @property
    def person(self) -> Person:
        """The person of the blobs, decoded anew."""
        return decode(self.blobs)


class Seeds(NamedTuple):
    """What a `Setting` is made of: the same seeds make the same setting."""

    shape: Shape
    recipe: int
    person: int
    ask: int


_SEED: Final = st.integers(0, 2**32 - 1)
seeds: Final = st.builds(Seeds, drawn_worlds.shapes, _SEED, _SEED, _SEED)
"""Of any decision."""


def made(of: Seeds) -> Setting:
    """The setting of these seeds."""
    world = drawn_worlds.world(of.shape)
    world = replace(world, recipe=drawn_worlds.recipe(np.random.default_rng(of.recipe)))
    blobs = drawn_people.blobs(np.random.default_rng(of.person), world)
    rng = np.random.default_rng(of.ask)
    ask = drawn_asks.ask(rng, world)
    return Setting(blobs, world, ask, EXPLAINS[int(rng.integers(3))])


def assert_same(one: Decision, other: Decision) -> None:
    """Both decisions show the same for the same reasons: scores and effects to `TOLERANCE`, feature rows as
    float32 bit for bit, all else equal."""
    ids = [[it.item_id for it in each.items] for each in (one, other)]
    assert ids[0] == ids[1]
    for name in Decision._fields:
        if name not in ("items", "sources", "removed"):
            assert (name, getattr(one, name)) == (name, getattr(other, name))
    for name in ("sources", "removed"):
        assert (name, dict(getattr(one, name))) == (name, dict(getattr(other, name)))
    for mine, theirs in zip(one.items, other.items, strict=True):
        differing = list(_differences(mine, theirs))
        assert not differing, (mine.item_id, differing)


def _differences(one: Shown, other: Shown) -> Iterator[tuple[str, object, object]]:
    for name in Shown._fields:
        mine, theirs = getattr(one, name), getattr(other, name)
        if name == "score":
            equal = isclose(mine, theirs, rel_tol=TOLERANCE, abs_tol=0)
        elif name == "features":
            equal = _bits(mine) == _bits(theirs)
        elif name == "contributions":
            equal = _same_contributions(mine, theirs)
        else:
            equal = type(mine) is type(theirs) and mine == theirs
        if not equal:
            yield name, mine, theirs


def _bits(features: tuple[float, ...]) -> bytes:
    return np.array(features, np.float32).tobytes()


def _same_contributions(one: tuple[Contribution, ...], other: tuple[Contribution, ...]) -> bool:
    """The same features with the same values and effects, each list largest effect first; effects that are
    equal to the tolerance may change places."""
    largest = max((abs(it.effect) for it in (*one, *other)), default=0.0)
    rest = {it.feature: it for it in other}
    if len(one) != len(other) or [it.feature for it in one if it.feature not in rest]:
        return False
    same = all(
        isclose(mine, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE * largest)
        for it in one
        for mine, theirs in zip(it[1:], rest[it.feature][1:], strict=True)
    )
    return same and all(
        before.effect >= after.effect for each in (one, other) for before, after in _pairs(each)
    )


def _pairs(found: tuple[Contribution, ...]) -> Iterator[tuple[Contribution, Contribution]]:
    yield from pairwise(found)
