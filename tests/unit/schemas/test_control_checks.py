"""`control` accepts valid changes and refuses others by field and code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from schemas import control_checks
from schemas.control import (
    BUILT_IN,
    Body,
    Current,
    Experiment,
    Filter,
    Recipe,
    Released,
    Repeat,
    release_order,
)
from schemas.reject import Rejected
from schemas.state.counting import Counting, only
from serving.world import placements

NAN, INFINITY = float("nan"), float("inf")
DIGEST = "0" * 64


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        call()
    return caught.value.field, caught.value.code


def recipe(**given: Any) -> Recipe:
    return msgspec.convert(given, Recipe)


def experiment(**given: Any) -> Experiment:
    halves = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
    return msgspec.convert({"placement": "home", "variants": halves, **given}, Experiment)


def variants(**second: Any) -> dict[str, Any]:
    return {"variants": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5, **second}]}


def released(**counting: Any) -> dict[str, Any]:
    return {"manifest_sha256": DIGEST, "counting": counting}


@pytest.mark.parametrize(
    ("given", "field", "code"),
    [
        ({"exploration": {"epsilon": NAN}}, "exploration.epsilon", "out_of_range"),
        ({"exploration": {"epsilon": -0.1}}, "exploration.epsilon", "out_of_range"),
        ({"exploration": {"epsilon": 1.1}}, "exploration.epsilon", "out_of_range"),
        ({"category_cap": 0.0}, "category_cap", "out_of_range"),
        ({"owner_cap": 1.01}, "owner_cap", "out_of_range"),
        ({"owner_cap": NAN}, "owner_cap", "out_of_range"),
        ({"fatigue": {"factor": 0.0}}, "fatigue.factor", "out_of_range"),
        ({"fatigue": {"half_life_hours": 0.0}}, "fatigue.half_life_hours", "out_of_range"),
        ({"fatigue": {"half_life_hours": INFINITY}}, "fatigue.half_life_hours", "out_of_range"),
        ({"repeat": {"view": "a day"}}, "repeat.view", "not_a_duration"),
        ({"repeat": {"click": "1.5d"}}, "repeat.click", "not_a_duration"),
        ({"repeat": {"purchase": ""}}, "repeat.purchase", "not_a_duration"),
        ({"repeat": {"purchase": "3651d"}}, "repeat.purchase", "out_of_range"),
        ({"fresh_days": -1.0}, "fresh_days", "out_of_range"),
        ({"fresh_days": 3651.0}, "fresh_days", "out_of_range"),
        ({"depth": 0}, "depth", "out_of_range"),
        ({"depth": 10**30}, "depth", "out_of_range"),
        ({"weights": {}}, "weights", "empty"),
        ({"weights": {"popular": INFINITY}}, "weights.popular", "out_of_range"),
        ({"weights": {"popular": -1e7}}, "weights.popular", "out_of_range"),
        ({"weights": {"what is this?": 1.0}}, "weights", "malformed"),
        ({"filters": {"": {"types": ["film"]}}}, "filters", "malformed"),
        ({"filters": {"a" * 65: {"types": ["film"]}}}, "filters", "malformed"),
        ({"filters": {"New": {"types": ["film"]}}}, "filters", "malformed"),
        ({"filters": {"new": {}}}, "filters.new", "empty"),
        ({"filters": {"new": {"tags": ["t"] * 101}}}, "filters.new.tags", "too_many"),
        ({"filters": {"new": {"tags": ["t", ""]}}}, "filters.new.tags[1]", "empty"),
        (
            {"filters": {"new": {"published_within_days": NAN}}},
            "filters.new.published_within_days",
            "out_of_range",
        ),
        ({"filters": {f"f{n}": {"types": ["film"]} for n in range(33)}}, "filters", "too_many"),
    ],
)
def test_a_recipe_is_refused_by_name(given: Any, field: str, code: str) -> None:
    assert refusal(lambda: control_checks.check_recipe(recipe(**given))) == (field, code)
    assert refusal(lambda: control_checks.check_recipe(recipe(**given), "recipe")) == (
        f"recipe.{field}",
        code,
    )


def test_recipes_at_their_limits_are_taken() -> None:
    for name in BUILT_IN:
        control_checks.check_recipe(placements.BUILT_IN_RECIPES[name])
    for epsilon in (0.0, 1.0):
        control_checks.check_recipe(
            recipe(exploration={"epsilon": epsilon}, fresh_days=3650 * epsilon)
        )
    control_checks.check_recipe(
        Recipe(
            weights={"popular": -1e6},
            category_cap=1.0,
            owner_cap=1e-9,
            depth=10_000,
            repeat=Repeat(view="0s", click="87600h", purchase="never"),
            filters={f"f_{n}-x": Filter(categories=("c",) * 100) for n in range(32)},
        )
    )


@pytest.mark.parametrize(
    ("given", "field", "code"),
    [
        ({"placement": ""}, "placement", "empty"),
        ({"salt": "a\0b"}, "salt", "control_character"),
        ({"variants": []}, "variants", "too_few"),
        ({"variants": [{"name": "a", "share": 1.0}]}, "variants", "too_few"),
        (
            {"variants": [{"name": f"v{n}", "share": 0.01} for n in range(11)]},
            "variants",
            "too_many",
        ),
        (variants(name="a"), "variants[1].name", "repeated"),
        (variants(name=""), "variants[1].name", "malformed"),
        (variants(name="b;v=9"), "variants[1].name", "malformed"),
        (variants(name="b,c"), "variants[1].name", "malformed"),
        (variants(name="b" * 65), "variants[1].name", "malformed"),
        (variants(share=0.0), "variants[1].share", "out_of_range"),
        (variants(share=-0.5), "variants[1].share", "out_of_range"),
        (variants(share=0.51), "variants[1].share", "out_of_range"),
        (variants(share=NAN), "variants[1].share", "out_of_range"),
        (variants(placement="a\n"), "variants[1].placement", "control_character"),
        (variants(release="newest"), "variants[1].release", "malformed"),
    ],
)
def test_an_experiment_is_refused_by_name(given: Any, field: str, code: str) -> None:
    assert refusal(lambda: control_checks.check_experiment("x", experiment(**given))) == (
        field,
        code,
    )


@pytest.mark.parametrize("identifier", ["", "a=b", "a;b", "a b", "é", "x" * 65, "a\n"])
def test_an_experiments_id_travels_in_a_header(identifier: str) -> None:
    assert refusal(
        lambda: control_checks.check_experiment(identifier, experiment(), "experiment")
    ) == (
        "experiment_id",
        "malformed",
    )


def test_shares_may_add_up_to_all() -> None:
    for n in range(2, 11):
        every = [{"name": f"v{i}", "share": 1 / n} for i in range(n)]
        control_checks.check_experiment("x", experiment(variants=every))


@pytest.mark.parametrize(
    ("subject", "identifier", "body", "field", "code"),
    [
        ("placement", "home", {"epsilon": 0.5}, "epsilon", "unknown_field"),
        ("placement", "home", {"depth": "9"}, "depth", "wrong_type"),
        ("placement", "home", [], "body", "wrong_type"),
        ("placement", "a\nb", {}, "placement", "control_character"),
        ("experiment", "x", {"placement": "home"}, "variants", "required"),
        ("experiment", "x;", {"placement": "home", "variants": []}, "experiment_id", "malformed"),
        ("release", "newest", {"manifest_sha256": DIGEST}, "release", "malformed"),
        ("release", "2026-11-23.1", {"manifest_sha256": "0"}, "manifest_sha256", "malformed"),
        *(
            ("release", "2026-11-23.1", released(**{name: value}), f"counting.{name}", code)
            for name, value, code in (
                ("lag_power", 0.7, "out_of_range"),
                ("backward", 1.1, "out_of_range"),
                ("gap", "day", "unknown_value"),
                ("fade", -0.1, "out_of_range"),
                ("window", [1, 1, 1], "out_of_range"),
                ("window", [0, 0, 0, 0], "out_of_range"),
                ("strangers", [1, 0, 0, -1], "out_of_range"),
                ("days", 1, "unknown_field"),
            )
        ),
        ("policy", "release", {"release": "2026-11-23"}, "release", "malformed"),
        ("policy", "release", {}, "release", "required"),
        ("policy", "", {}, "policy", "empty"),
    ],
)
def test_a_body_is_refused_by_name(
    subject: str, identifier: str, body: Any, field: str, code: str
) -> None:
    text = json.dumps(body).encode()
    assert refusal(lambda: control_checks.decode_body(subject, identifier, text)) == (field, code)


def test_what_is_no_json_or_no_text_is_a_refusal_too() -> None:
    decode_body = control_checks.decode_body
    assert refusal(lambda: decode_body("placement", "home", b"{")) == ("body", "not_json")
    assert refusal(lambda: decode_body("policy", "any", b'"\xff"')) == ("body", "not_utf8")
    assert control_checks.decode_body("policy", "any", b'{"whatever": [1]}') is None


def test_a_release_says_how_is_counted_or_nothing() -> None:
    for counting in (None, Counting(), Counting(gap="session", window=only("7d"), fade=0)):
        body = Released(manifest_sha256=DIGEST, counting=counting)
        text = msgspec.json.encode(body)
        assert control_checks.decode_body("release", "2026-11-23.1", text) == body
        assert (b"counting" in text) == (counting is not None)
    assert Counting(strangers=(NAN, 0.0, 0.0, 1.0)).fault == "strangers"
    assert Counting(window=(INFINITY, 0.0, 0.0, 1.0)).fault == "window"


def test_releases_sort_by_day_and_number() -> None:
    ids = ["2026-11-23.2", "2026-11-23.10", "2026-12-01.0", "2027-01-01.1"]
    assert sorted(ids, key=release_order) == ids
    for wrong in ("", "2026-11-23", "2026-11-23.02", "2026-11-23.x", "2026-11-23.٣"):
        with pytest.raises(ValueError):
            release_order(wrong)


OLD, NEW, MISSING = "2026-11-23.9", "2026-11-23.10", "2026-11-24.1"
BODIES: dict[str, Body] = {
    "placement:shelf": Recipe(),
    "experiment:here": experiment(),
    "experiment:over": experiment(placement="shelf", running=False),
    f"release:{OLD}": Released(manifest_sha256=DIGEST),
    f"release:{NEW}": Released(manifest_sha256=DIGEST),
    "policy:release": Current(release=NEW),
}


@pytest.mark.parametrize(
    ("identifier", "body", "field", "code"),
    [
        ("x", experiment(placement="nowhere"), "placement", "unknown_placement"),
        ("x", experiment(), "placement", "overlapping_experiment"),
        ("over", experiment(), "placement", "overlapping_experiment"),
        (
            "here",
            experiment(**variants(placement="nowhere")),
            "variants[1].placement",
            "unknown_placement",
        ),
        ("here", experiment(**variants(release=MISSING)), "variants[1].release", "missing_release"),
        ("release", Current(release=MISSING), "release", "missing_release"),
        ("release", Current(release=OLD), "release", "older_release"),
    ],
)
def test_a_change_that_does_not_fit_what_is_in_force_is_refused(
    identifier: str, body: Body, field: str, code: str
) -> None:
    in_force = control_checks.definitions(BODIES)
    assert refusal(lambda: control_checks.check_fits(identifier, body, in_force)) == (field, code)


@pytest.mark.parametrize(
    ("identifier", "body"),
    [
        ("here", experiment(**variants(placement="popular", release=OLD))),
        ("x", experiment(running=False)),
        ("x", experiment(placement="shelf")),
        ("x", experiment(placement="popular")),
        ("release", Current(release=OLD, rollback=True)),
        ("release", Current(release=NEW)),
        ("release", Current(release="")),
        ("home", Recipe()),
    ],
)
def test_a_change_that_fits_what_is_in_force_is_taken(identifier: str, body: Body) -> None:
    control_checks.check_fits(identifier, body, control_checks.definitions(BODIES))
