"""The compiled decision against its definition, with any of its entries taken away from C; and its memory:
what is prepared for a world follows that world, and goes with it."""

from __future__ import annotations

import gc
from dataclasses import replace
from weakref import ref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from schemas.actions import CODE
from schemas.control import Exploration, Fatigue, Filter, Recipe, Repeat
from schemas.events import Preferences
from schemas.items import Item
from schemas.state.tables import WINDOWS, Meta, Published
from serving.decide import compiled, workspace
from serving.decide.case import Ask, Case, World
from serving.decide.columns import ALL_COLUMNS
from serving.decide.decide import ENTRIES, decide, decide_by_numpy
from serving.decide.entries import IN_PYTHON, Entries
from serving.decide.person import EMPTY_PERSON, Person
from serving.decide.pool import MAX_SCORED, Retrieved
from serving.decide.results import Decision, Explain
from serving.decide.rules import RULES
from serving.decide.sources import SOURCES, Source, least_served, unscored
from tests.support.worlds import (
    DAY_MS,
    NOW,
    arms,
    catalogue,
    neighbours,
    person,
    popularity,
    release,
    released,
    world,
)

pytestmark = pytest.mark.skipif(kernel is None, reason=missing or "there is one")

NAMES = tuple(name for codes in ENTRIES.codes.values() for name in codes)
EXPLAINS: tuple[Explain, ...] = ("none", "reason", "full")


def without(*names: str) -> Entries:
    """The entries, of which C knows all but these."""
    return Entries(SOURCES, RULES, ALL_COLUMNS, least_served, without=names)


def a_world(rng: np.random.Generator) -> World:
    items = catalogue(
        int(rng.integers(0, 150)), int(rng.integers(1, 6)), int(rng.integers(1 << 30))
    )
    for item in items[:: int(rng.integers(2, 9))]:
        item.available = False
    for item in items[1 :: int(rng.integers(1, 4))]:
        item.group_id = f"g{rng.integers(20)}" if rng.random() < 0.5 else ""
    names = sorted({source.name for source in SOURCES} | {column.name for column in ALL_COLUMNS})
    drawn = rng.choice(names, int(rng.integers(1, len(names))), replace=False).tolist()
    weights = {name: float(rng.choice([1.0, 0.3, 0.015, -0.2])) for name in drawn}
    recipe = Recipe(
        weights=weights if rng.random() < 0.7 else None,
        ranker=bool(rng.random() < 0.8),
        category_cap=float(rng.choice([0.1, 0.3, 1.0])),
        owner_cap=float(rng.choice([0.1, 0.3, 1.0])),
        fresh_days=float(rng.choice([0.0, 3.0, 90.0])),
        exploration=Exploration(epsilon=float(rng.choice([0.0, 0.5, 1.0]))),
        fatigue=Fatigue(factor=float(rng.choice([0.5, 1.0]))),
        repeat=Repeat(view=str(rng.choice(["1d", "never", "0s"])), click="2d", purchase="never"),
        depth=int(rng.choice([1, 7, 200])),
    )
    lists = neighbours(items, int(rng.integers(1, 12)), int(rng.integers(1 << 30)))
    popular = popularity(items, int(rng.integers(1 << 30))) if rng.random() < 0.8 else {}
    made = world(items, lists, popular, recipe)
    if items and rng.random() < 0.6:
        ranks = bool(rng.random() < 0.7)
        made = released(made, release(items, int(rng.integers(1 << 30)), ranker=ranks))
    if items and rng.random() < 0.7:
        arms(made, "home", {item.item_id: int(rng.integers(5)) for item in items[::2]})
    return made


def a_person(rng: np.random.Generator, ids: list[str]) -> Person:
    codes = [CODE[name] for name in ("view", "like", "dislike", "purchase", "hide")]
    acts = [(str(rng.choice(ids)), int(rng.choice(codes))) for _ in range(int(rng.integers(0, 60)))]
    preferences = None
    if rng.random() < 0.4:
        preferences = Preferences(
            event_id="e",
            person="p",  # type: ignore[arg-type]
            received_at=NOW,
            liked_categories=("c0", "unknown"),
            hidden_items=tuple(rng.choice(ids, 2).tolist()),
            hidden_categories=("c1",) if rng.random() < 0.5 else (),
            hidden_owners=("o1", "unknown") if rng.random() < 0.5 else (),
            personalized=bool(rng.random() < 0.8),
        )
    shown = {str(rng.choice(ids)): int(rng.integers(1, 4)) for _ in range(int(rng.integers(0, 9)))}
    return person(acts, preferences=preferences, shown=shown)


def an_ask(rng: np.random.Generator, ids: list[str]) -> Ask:
    def at_times(value: object, share: float = 0.3) -> object:
        return value if rng.random() < share else None

    wanted = Filter(owners=("o1", "o2", "o3"), published_within_days=float(rng.integers(1, 120)))
    return Ask(
        now=NOW + int(rng.integers(-3, 3)) * DAY_MS,
        count=int(rng.choice([1, 2, 10, 40])),
        category=at_times(str(rng.choice(["c0", "c1", "unknown"]))),  # type: ignore[arg-type]
        item_id=at_times(str(rng.choice(ids))),  # type: ignore[arg-type]
        exclude=tuple(rng.choice(ids, int(rng.integers(0, 4))).tolist()),
        served=rng.integers(0, 1 << 32, int(rng.integers(0, 4)), np.uint32).tobytes(),
        personalized=bool(rng.random() < 0.9),
        window=at_times(str(rng.choice(WINDOWS))),  # type: ignore[arg-type]
        seed=int(rng.integers(1 << 62)),
        filter=at_times(wanted),  # type: ignore[arg-type]
        placement=str(rng.choice(["home", "other"])),
        groups=("g1", "unknown") if rng.random() < 0.2 else (),
    )


def same(one: Decision, other: Decision) -> None:
    """Equal, scores and effects to 1e-6; the rows as float32."""
    assert [it.item_id for it in one.items] == [it.item_id for it in other.items]
    for mine, theirs in zip(one.items, other.items, strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=1e-6, abs=0)
        rows = [np.array(it.features, np.float32).tobytes() for it in (mine, theirs)]
        assert rows[0] == rows[1]
        effects = [{it.feature: it[1:] for it in each.contributions} for each in (mine, theirs)]
        assert effects[0].keys() == effects[1].keys()
        for feature, numbers in effects[0].items():
            assert numbers == pytest.approx(effects[1][feature], rel=1e-6, abs=1e-9)
        plain = [it._replace(score=0.0, features=(), contributions=()) for it in (mine, theirs)]
        assert plain[0] == plain[1]
    assert one._replace(items=[]) == other._replace(items=[])


def by_kernel(
    entries: Entries, who: Person, w: World, ask: Ask, explain: Explain = "reason"
) -> Decision:
    stages: list[str] = []
    made = compiled.decide(
        entries, who, w, ask, explain, lambda stage, ms=None: stages.append(stage)
    )
    assert made is not None
    assert stages == ["retrieve", "eligible", "score", "rank", "arrange", "explain"]
    return made


@given(st.integers(0, 1 << 32), st.sets(st.sampled_from(NAMES), max_size=6) | st.just(set(NAMES)))
@settings(max_examples=120, deadline=None)
def test_the_kernel_decides_as_its_definition_whatever_it_lacks(seed: int, lacks: set[str]) -> None:
    rng = np.random.default_rng(seed)
    w = a_world(rng)
    ids = [*w.items.item_ids(), "unknown"]
    who, ask, explain = a_person(rng, ids), an_ask(rng, ids), EXPLAINS[int(rng.integers(3))]
    wanted = decide_by_numpy(who, w, ask, explain)
    same(by_kernel(ENTRIES, who, w, ask, explain), wanted)
    same(by_kernel(without(*lacks), who, w, ask, explain), wanted)


def test_what_changes_is_followed() -> None:
    """The catalogue grows over its arrays, items go, tables come, the release is another, the minute too."""
    rng = np.random.default_rng(3)
    items = catalogue(40, 4, 1)
    recipe = Recipe(
        exploration=Exploration(epsilon=0.5), fresh_days=30, weights={"content": 1.0, "vector": 0.5}
    )
    w = world(items, neighbours(items, 5, 1), popularity(items, 1), recipe)
    who, more = person([("i1", CODE["like"]), ("i2", CODE["view"])]), catalogue(1500, 70, 2)
    for step in range(12):
        if step == 2:
            w = released(w, release(items, 1))
        elif step == 4:
            for item in more:
                item.group_id = f"g{rng.integers(300)}"
                w.items.put(item)
        elif step == 6:
            w.items.drop("i3")
        elif step == 8:
            change = Meta(version=step, positions=[step], landmarks=[0.0] * len(WINDOWS))
            w.tables.apply(
                Published(
                    meta=change,
                    neighbours=neighbours(more[:200], 60, step),
                    popularity=popularity(more, step),
                )
            )
        elif step == 10:
            w = released(w, release(more, 2))
        elif step == 11:
            w.tables.clear()
        for index in (w.index, w.space):
            assert index is None or index.refresh()
        for n in range(3):
            ask = Ask(now=NOW + n * 59_000, count=20, placement="home", seed=n)
            same(by_kernel(ENTRIES, who, w, ask), decide_by_numpy(who, w, ask))


def test_room_is_made_where_sources_bring_more() -> None:
    items = [Item(item_id=f"i{n}", published_at=NOW - n) for n in range(6000)]
    w = world(items, recipe=Recipe(depth=9000, weights={"popular": 1.0, "fresh": 1.0}))
    for count in (10, MAX_SCORED + 500):
        ask = Ask(now=NOW, count=count)
        same(by_kernel(ENTRIES, EMPTY_PERSON, w, ask), decide_by_numpy(EMPTY_PERSON, w, ask))


def test_what_is_prepared_goes_with_its_world() -> None:
    items = catalogue(30, 3, 1)
    w = world(items)
    decide(EMPTY_PERSON, w, Ask(now=NOW))
    with_release = released(w, release(items, 1))
    decide(EMPTY_PERSON, with_release, Ask(now=NOW))
    gone = ref(with_release.release)
    work = workspace.take()
    prepared = len(work.prepared)
    del with_release
    gc.collect()
    assert gone() is None
    assert len(work.prepared) == prepared - 1
    workspace.give_back(work)


def test_a_bounded_number_of_recipes_is_kept_prepared() -> None:
    w = world(catalogue(10, 2, 1))
    for n in range(compiled.MAX_PREPARED + 5):
        decide(EMPTY_PERSON, replace(w, recipe=Recipe(depth=1 + n)), Ask(now=NOW))
    work = workspace.take()
    assert len(work.prepared) == compiled.MAX_PREPARED
    workspace.give_back(work)


def test_a_source_in_python_may_decide_itself() -> None:
    """Each decision under way has its own memory."""
    w = world(catalogue(30, 3, 1), recipe=Recipe(weights={"within": 1.0}))

    def within(case: Case, depth: int) -> Retrieved:
        plain = replace(case.world, recipe=Recipe())
        found = decide(case.person, plain, case.ask).items
        return unscored(np.array([item.slot for item in found][::-1], np.int32))

    entries = Entries((*SOURCES, Source("within", within)), RULES, ALL_COLUMNS, least_served)
    assert entries.codes["source"]["within"] == IN_PYTHON
    made = by_kernel(entries, EMPTY_PERSON, w, Ask(now=NOW))
    assert made.sources["within"] == 10


def test_a_foreign_source_is_asked_where_its_case_needs_it() -> None:
    def first(case: Case, depth: int) -> Retrieved:
        return unscored(np.array([1], np.int32))

    needy = Source("needy", first, needed=lambda case: case.ask.count == 3)
    entries = Entries((*SOURCES, needy), RULES, ALL_COLUMNS, least_served)
    w = world(catalogue(10, 2, 1))
    for count in (2, 3, 4):
        made = by_kernel(entries, EMPTY_PERSON, w, Ask(now=NOW, count=count))
        assert ("needy" in made.sources) == (count == 3)


def test_a_source_that_fails_harms_no_later_decision() -> None:
    def fails(case: Case, depth: int) -> Retrieved:
        raise ZeroDivisionError

    entries = Entries((*SOURCES, Source("fails", fails)), RULES, ALL_COLUMNS, least_served)
    w = world(catalogue(30, 3, 1), recipe=Recipe(weights={"fails": 1.0}))
    with pytest.raises(ZeroDivisionError):
        by_kernel(entries, EMPTY_PERSON, w, Ask(now=NOW))
    plain = replace(w, recipe=Recipe())
    wanted = decide_by_numpy(EMPTY_PERSON, plain, Ask(now=NOW))
    same(by_kernel(ENTRIES, EMPTY_PERSON, plain, Ask(now=NOW)), wanted)


def test_every_entry_is_compiled() -> None:
    assert ENTRIES.in_python == {"source": [], "rule": [], "column": []}
    assert without("popular", "seen").in_python == {
        "source": ["popular"],
        "rule": ["seen"],
        "column": ["popular"],
    }
