"""Control as the fold keeps it, and the assignment of a person."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.control import ControlState
from models.experiments.assignment import assign
from schemas import control_checks
from schemas.alphabet import Pseudonym
from schemas.control import BUILT_IN, Body, Change, Current, Experiment, Held, Recipe, Released
from schemas.events import Assigned
from schemas.reject import Rejected
from serving.world import placements
from serving.world.placements import (
    DEFAULT_RECIPE,
    HOME_RECIPE,
    POPULAR_RECIPE,
    REPLAY_RECIPE,
    Control,
)

DIGEST = "0" * 64
OLD, NEW = "2026-11-23.9", "2026-11-23.10"
ALICE, BOB = Pseudonym("01" + "a" * 30), Pseudonym("01" + "b" * 30)


def experiment(**given: Any) -> Experiment:
    halves = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
    return msgspec.convert({"placement": "home", "variants": halves, **given}, Experiment)


def variants(**second: Any) -> dict[str, Any]:
    return {"variants": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, **second}]}


def change(name: str, expected_version: int, body: Body) -> Change:
    subject, _, identifier = name.partition(":")
    return Change(
        subject=subject,  # type: ignore[arg-type]
        id=identifier,
        expected_version=expected_version,
        body=msgspec.Raw(msgspec.json.encode(body)),
        received_at=0,
    )


def fold(changes: list[Change], cuts: set[int]) -> tuple[dict[bytes, bytes], list[str]]:
    """The state in force after all changes, stored and read again before each place in `cuts`, and the
    outcome of each change."""
    stored: dict[bytes, bytes] = {}
    state, came = ControlState(stored), []
    for n, each in enumerate(changes):
        if n in cuts:
            state = ControlState(stored)
        try:
            body = control_checks.decode_body(each.subject, each.id, bytes(each.body))
            came.append("taken" if state.apply_change(n, each, body) else "stale")
        except Rejected as error:
            came.append(error.code)
        stored = {name.encode(): msgspec.json.encode(held) for name, held in state.held.items()}
    return stored, came


def test_the_log_decides_who_was_first() -> None:
    run = experiment()
    stored, came = fold(
        [
            change("experiment:one", 0, run),
            change("experiment:two", 0, run),
            change("experiment:one", 0, run),
            change("experiment:one", 1, experiment(running=False)),
            change("experiment:two", 0, run),
            change("experiment:two", 1, experiment(**variants(release=OLD))),
            change(f"release:{OLD}", 0, Released(manifest_sha256=DIGEST)),
            change(f"release:{NEW}", 0, Released(manifest_sha256=DIGEST)),
            change("experiment:two", 1, experiment(**variants(release=OLD))),
            change("policy:release", 0, Current(release=NEW)),
            change("policy:release", 1, Current(release=OLD)),
            change("policy:release", 1, Current(release=OLD, rollback=True)),
            change("policy:else", 0, None),
        ],
        set(),
    )
    assert came == [
        "taken",
        "overlapping_experiment",
        "stale",
        "taken",
        "taken",
        "missing_release",
        "taken",
        "taken",
        "taken",
        "taken",
        "older_release",
        "taken",
        "taken",
    ]
    held = msgspec.json.decode(stored[b"experiment:two"], type=Held)
    assert (held.version, held.offset) == (2, 8)
    assert stored[b"policy:else"]


NAMES = ["experiment:one", "experiment:two", "placement:a", "placement:b", f"release:{OLD}"]
NAMES += [f"release:{NEW}", "policy:release"]


def anything(rnd: random.Random) -> Change:
    name = rnd.choice(NAMES)
    body: Body
    match name.partition(":")[0]:
        case "experiment":
            where, release = rnd.choice(["home", "a", "b"]), rnd.choice(["", OLD, NEW])
            body = experiment(
                placement=where,
                running=rnd.random() < 0.7,
                **variants(placement=rnd.choice(["", "a", "b"]), release=release),
            )
        case "placement":
            body = msgspec.convert(
                {"exploration": {"epsilon": rnd.choice([0.0, 0.5, 1.5])}}, Recipe
            )
        case "release":
            body = Released(manifest_sha256=DIGEST)
        case _:
            body = Current(release=rnd.choice([OLD, NEW]), rollback=rnd.random() < 0.2)
    return change(name, rnd.choice([0, 0, 1, 1, 2]), body)


@given(st.integers(0, 2**32), st.sets(st.integers(0, 39)))
def test_any_split_of_the_log_gives_the_same_state(seed: int, cuts: set[int]) -> None:
    rnd = random.Random(seed)
    changes = [anything(rnd) for _ in range(40)]
    stored, came = fold(changes, cuts)
    assert (stored, came) == fold(changes, set())
    # and the definitions in force are valid, whatever was refused
    held = {name.decode(): msgspec.json.decode(v, type=Held) for name, v in stored.items()}
    bodies = {name: _body(name, each) for name, each in held.items()}
    in_force = control_checks.definitions(bodies)
    running = [e.placement for e in in_force.experiments.values() if e.running]
    assert len(running) == len(set(running))
    assert not in_force.current or in_force.current in in_force.releases
    for name, body in bodies.items():
        if isinstance(body, Experiment):
            control_checks.check_fits(name.partition(":")[2], body, in_force)


def _body(name: str, held: Held) -> Body:
    subject, _, identifier = name.partition(":")
    return control_checks.decode_body(subject, identifier, held.body.encode())


def held(body: Body, version: int = 1) -> bytes:
    text = msgspec.json.encode(body).decode()
    return msgspec.json.encode(Held(version=version, body=text, offset=version))


def test_without_control_there_is_what_is_built_in() -> None:
    control = Control()
    assert set(BUILT_IN) == set(placements.BUILT_IN_RECIPES)
    assert control.placed("home") == (HOME_RECIPE, "r0")
    assert control.placed("nowhere") is None
    assert control.assigned("nowhere", ALICE) is None
    assert control.assigned("replay", ALICE) == ((REPLAY_RECIPE, "r0"), (), "")
    assert (control.current, control.releases, control.experiments) == ("", frozenset(), {})
    # offline, and where history is replayed, nothing is drawn
    assert (HOME_RECIPE.exploration.epsilon, DEFAULT_RECIPE.exploration.epsilon) == (0.1, 0)
    assert (REPLAY_RECIPE.exploration.epsilon, REPLAY_RECIPE.fatigue.factor) == (0, 1)
    assert (POPULAR_RECIPE.weights, POPULAR_RECIPE.ranker) == ({"popular": 1.0}, False)
    assert (REPLAY_RECIPE.category_cap, REPLAY_RECIPE.owner_cap) == (
        HOME_RECIPE.category_cap,
        HOME_RECIPE.owner_cap,
    )


def full_control() -> Control:
    control = Control()
    control.put("placement:home", held(Recipe(fresh_days=7), 4))
    control.put("placement:popular", held(Recipe(weights={"popular": 2.0}), 3))
    control.put("policy:release", held(Current(release=NEW)))
    control.put(f"release:{OLD}", held(Released(manifest_sha256=DIGEST)))
    control.put(f"release:{NEW}", held(Released(manifest_sha256=DIGEST)))
    body = experiment(**variants(placement="popular", release=OLD))
    control.put("experiment:x", held(body, 9))
    return control


def test_an_experiment_gives_people_what_their_variant_names() -> None:
    control = full_control()
    _, running = control.experiments["x"]
    by_variant: dict[str, Pseudonym] = {}
    for n in range(50):
        person = Pseudonym(f"01{n:030x}")
        variant = assign("x", running, person)
        assert variant is not None
        by_variant[variant.name] = person
    own = control.assigned("home", by_variant["a"])
    assert own == ((Recipe(fresh_days=7), "r4"), (Assigned("x", 9, "a"),), NEW)
    lent = control.assigned("home", by_variant["b"])
    popular = (Recipe(weights={"popular": 2.0}), "popular/r3")
    assert lent == (popular, (Assigned("x", 9, "b"),), OLD)
    assert control.assigned("home", None) == ((Recipe(fresh_days=7), "r4"), (), NEW)
    assert control.assigned("popular", ALICE) == ((popular[0], "r3"), (), NEW)
    assert control.releases == {OLD, NEW}
    assert set(control.released) == {OLD, NEW}


def test_a_person_in_no_variant_gets_the_placements_own_recipe() -> None:
    control = full_control()
    tiny = [{"name": "a", "share": 0.0001}, {"name": "b", "share": 0.0001}]
    control.put("experiment:x", held(experiment(variants=tiny, salt="s"), 10))
    for person in (ALICE, BOB):
        assert control.assigned("home", person) == ((Recipe(fresh_days=7), "r4"), (), NEW)


def test_an_experiment_that_does_not_run_changes_nothing() -> None:
    control = full_control()
    control.put("experiment:x", held(experiment(running=False, **variants(release=OLD)), 10))
    assert control.assigned("home", ALICE) == control.assigned("home", None)
    assert control.releases == {NEW}
    assert control.experiments["x"][0].version == 10
    control.put("experiment:x", b"")
    assert control.experiments == {}


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"\xff",
        held(Released(manifest_sha256=DIGEST), 9),
        held(experiment(**variants(share=5.0)), 9),
    ],
)
def test_an_unreadable_record_keeps_the_definition_before(value: bytes) -> None:
    control = full_control()
    before, gets = control.experiments["x"], control.assigned("home", ALICE)
    control.put("experiment:x", value)
    control.put("experiment:x", value)
    assert control.experiments["x"] == before
    assert control.assigned("home", ALICE) == gets
    (line,) = control.problems
    assert "5.0" not in line
    control.replace({"experiment:x": value, "placement:home": held(Recipe(), 5)})
    assert control.experiments["x"] == before
    assert control.placed("home") == (Recipe(), "r5")
    assert (control.placed("popular"), control.current) == ((POPULAR_RECIPE, "r0"), "")


def test_a_variant_whose_recipe_is_missing_assigns_no_person() -> None:
    control = Control()
    control.put("experiment:x", held(experiment(**variants(placement="lost")), 1))
    for n in range(50):
        assigned = control.assigned("home", Pseudonym(f"01{n:030x}"))
        assert assigned is not None
        names = [each.variant for each in assigned.experiments]
        assert names in ([], ["a"])
        assert assigned.placed == (HOME_RECIPE, "r0")
