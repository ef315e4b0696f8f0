"""Columns, scores and ranks of the compiled decision: each number is that of the definition."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal, assert_array_max_ulp
from numpy.typing import NDArray

from models.features.ring import BACK
from models.kernels.loading import kernel, missing
from schemas.actions import ACTIONS
from schemas.alphabet import Pseudonym
from schemas.control import Fatigue, Recipe
from schemas.events import Preferences
from schemas.state.tables import WINDOWS
from serving.decide import compiled, workspace
from serving.decide.case import MINUTE_MS, Ask, Case, World
from serving.decide.columns import ALL_COLUMNS
from serving.decide.decide import ENTRIES
from serving.decide.entries import Entries
from serving.decide.groups import choose
from serving.decide.person import Person
from serving.decide.pool import MAX_SCORED, Places, Pool
from serving.decide.rank import rank
from serving.decide.results import Ranked, Scored
from serving.decide.rules import RULES, eligible
from serving.decide.score import score
from serving.decide.sources import SOURCES, least_served, retrieve, shortlist
from tests.support import worlds
from tests.support.worlds import NOW

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)
ITEMS: Final = 240
MANY: Final = 1300
NAMES: Final = tuple(column.name for column in ALL_COLUMNS)


@lru_cache(maxsize=8)
def world_of(n: int, grouped: bool, released: bool) -> World:
    items = worlds.catalogue(n, 6, seed=1)
    if grouped:
        items = [
            msgspec.structs.replace(item, group_id=f"g{at % 40}" if at % 3 else "")
            for at, item in enumerate(items)
        ]
    lists = worlds.neighbours(items, 30 if n < MANY else 90, seed=2)
    popular = worlds.popularity(items, seed=3)
    made = worlds.world(items, lists, popular)
    return worlds.released(made, worlds.release(items, seed=4)) if released else made


class Stages(NamedTuple):
    """What the stages of the middle made of one decision: by the definition, and by C in `d`."""

    case: Case
    pool: Pool
    kept: Places
    scored: Scored
    ranked: Ranked
    d: Any

    def of_c(self, name: str, n: int) -> NDArray[Any]:
        """(n,) a copy of an array of the workspace."""
        assert kernel is not None
        pointer = getattr(self.d, name)
        kind = {"double *": np.float64, "float *": np.float32, "int32_t *": np.int32}
        dtype = np.dtype(kind[kernel.ffi.typeof(pointer).cname])
        return np.frombuffer(kernel.ffi.buffer(pointer, n * dtype.itemsize), dtype).copy()


def stages(person: Person, world: World, ask: Ask, entries: Entries = ENTRIES) -> Stages:
    assert compiled.decide(entries, person, world, ask, "none", lambda *_: None) is not None
    work = workspace.take()  # the one that was given back last
    workspace.give_back(work)
    d, case = work.d, Case(person, world, ask)
    pool = retrieve(case, d.deeper)
    pool, kept, _ = choose(case, pool, eligible(case, pool.slots).kept)
    found = Stages(case, pool, kept, None, None, d)  # type: ignore[arg-type]
    scored = score(case, pool, found.of_c("scored", d.k).astype(np.intp))
    return found._replace(scored=scored, ranked=rank(case, pool, scored))


def assert_equal(made: Stages) -> None:
    """C's numbers are those of the definition."""
    case, pool, kept, scored, ranked, d = made
    k = len(scored.totals)
    if not d.filling:
        assert_array_equal(scored.kept, shortlist(pool, kept))
    weighted = [name for name in NAMES if case.world.weights.get(name)]
    values = made.of_c("values", len(weighted) * d.place_room).reshape(-1, d.place_room)
    for at, name in enumerate(weighted):
        assert (name, bool(d.has_values[at])) == (name, name in scored.values)
        if name in scored.values:
            # an impression's decay may differ in the last bit of float64
            single = np.float32 if name == "shown" else np.float64
            found = values[at, :k].astype(single)
            assert_array_equal(found, scored.values[name].astype(single), err_msg=name)
    assert_array_equal(made.of_c("total", k), scored.totals)
    assert_array_equal(made.of_c("coarse_order", k), scored.order)

    n = len(ranked.reranked)
    assert (bool(d.ran), d.n_ranked) == (n > 0, n)
    if n:
        rows = made.of_c("rows", ranked.rows.size).reshape(ranked.rows.shape)
        assert_array_equal(rows, ranked.rows)
        assert_array_equal(made.of_c("predictions", n), ranked.predictions)
    assert bool(d.has_tiredness) == (ranked.fatigue is not None)
    assert_array_max_ulp(made.of_c("score", k), ranked.scores, 1)
    assert_array_max_ulp(made.of_c("before_fatigue", k), ranked.before_fatigue, 1)
    assert_array_equal(made.of_c("order", k), ranked.order)


def recipe_of(rng: np.random.Generator) -> Recipe:
    weights = {str(name): float(rng.normal()) for name in rng.choice(NAMES, 9, replace=False)}
    sources = {"covisit": 1.0, "vector": 0.2, "content": 0.1, "popular": 0.1, "fresh": 0.0}
    # by co-visitation alone most scores are equal
    drawn = (None, {"covisit": 1.0}, {**sources, **weights}, {**sources, **weights})
    return Recipe(
        weights=drawn[rng.integers(len(drawn))],
        ranker=bool(rng.random() < 0.8),
        fatigue=Fatigue(factor=float(rng.choice([1.0, 0.7]))),
        depth=int(rng.choice([20, 200])),
    )


def person_of(rng: np.random.Generator, n: int) -> Person:
    """Who acted on some items, most of them without a category then, and was shown others."""
    acts = [
        (f"i{rng.integers(0, n + 5)}", int(rng.integers(len(ACTIONS))))
        for _ in range(rng.integers(0, 60))
    ]
    liked = tuple(f"c{number}" for number in rng.integers(0, 9, rng.integers(0, 3)))
    preferences = Preferences(
        event_id="e",
        person=Pseudonym("0" * 32),
        received_at=NOW,
        liked_categories=liked,
        personalized=bool(rng.random() < 0.9),
    )
    shown = {f"i{item}": int(1 + item % 4) for item in rng.integers(0, n, rng.integers(0, 20))}
    found = worlds.person(
        acts,
        categories={f"i{item}": f"c{item % 7}" for item in range(0, n, 3)},
        seen=[f"i{item}" for item in rng.integers(0, n, rng.integers(0, n // 4))],
        preferences=preferences if rng.random() < 0.6 else None,
        shown=shown,
    )
    row = found.row.copy()
    row["ring"]["flags"][::4] |= BACK
    return found._replace(row=row)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@settings(deadline=None)
def test_every_number_is_that_of_the_definition(seed: int, grouped: bool, released: bool) -> None:
    rng = np.random.default_rng(seed)
    world = replace(world_of(ITEMS, grouped, released), recipe=recipe_of(rng))
    ask = Ask(
        now=NOW + int(rng.choice([0, 45 * MINUTE_MS, 10**9])),
        count=int(rng.integers(1, 60)),
        item_id=f"i{rng.integers(ITEMS)}" if rng.random() < 0.3 else None,
        window=str(rng.choice(WINDOWS)) if rng.random() < 0.2 else None,
        seed=seed,
    )
    assert_equal(stages(person_of(rng, ITEMS), world, ask))


@given(st.integers(0, 2**32 - 1), st.sets(st.sampled_from(NAMES), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_columns_without_an_entry_are_handed_in(seed: int, names: set[str]) -> None:
    rng = np.random.default_rng(seed)
    world = replace(world_of(ITEMS, bool(seed % 2), True), recipe=recipe_of(rng))
    entries = Entries(SOURCES, RULES, ALL_COLUMNS, least_served, without=names)
    person = person_of(rng, ITEMS)
    assert_equal(stages(person, world, Ask(now=NOW, count=20, seed=seed), entries))


@pytest.mark.parametrize("grouped", [False, True])
def test_of_many_candidates_those_are_scored_that_a_source_ranks_highest(grouped: bool) -> None:
    made = world_of(MANY, grouped, True)
    weights = {"covisit": 1.0, "content": 0.2, "popular": 0.1, "popular_7d": 0.1, "fresh": 0.1}
    world = replace(made, recipe=Recipe(weights=weights, depth=MANY))
    for seed in range(6):
        person = person_of(np.random.default_rng(seed), MANY)
        found = stages(person, world, Ask(now=NOW))
        assert grouped or len(found.kept) > MAX_SCORED
        assert_equal(found)


@pytest.mark.parametrize("output", [np.nan, np.inf])
def test_outputs_that_are_not_finite_leave_the_coarse_order(output: float) -> None:
    world = world_of(ITEMS, False, True)
    assert world.release is not None
    release = replace(
        world.release, rank=lambda rows: np.full(len(rows), output, np.float32), trees=None
    )
    found = stages(
        person_of(np.random.default_rng(6), ITEMS), replace(world, release=release), Ask(now=NOW)
    )
    assert not found.d.ran
    assert_equal(found)


def test_each_column_has_its_entry() -> None:
    assert list(ENTRIES.codes["column"].items()) == list(zip(NAMES, range(len(NAMES)), strict=True))
