"""The details of a 422: the fields there are and what they take, as the types say, never what was sent."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from infra.settings import Settings
from schemas.actions import CLIENT_ACTIONS
from schemas.control import Recipe
from schemas.control_checks import check_recipe
from schemas.events import EventIn
from schemas.reject import Rejected
from serving.app import create
from serving.edge.enrich import MAX_CONTEXT_FIELDS, MAX_CONTEXT_TEXT_LENGTH
from serving.http.details import _DESCRIBED, _MEANINGS, detail
from serving.http.errors import FieldError
from serving.http.guard import Guarded
from serving.http.parameters import pairs
from serving.http.registry import definitions
from serving.read import query
from serving.read.rows import PageIn, RowIn
from tests.unit.serving.test_ingest import VIEW, rejections, send

ROUTES: Final = [route for route in create(Settings()).routes if isinstance(route, Guarded)]
BY_NAME: Final = {route.endpoint.__name__: route for route in ROUTES}

ROOT: Final = Path(__file__).parents[3]
SOURCES: Final = [*ROOT.glob("serving/**/*.py"), *ROOT.glob("schemas/*.py")]


def said(name: str, field: str, code: str) -> str:
    return said_by(BY_NAME[name], field, code)


def said_by(route: Guarded, field: str, code: str) -> str:
    return detail(route.openapi_extra or {}, [FieldError(field, code)], route.param_convertors)


TIME: Final = "a time of RFC 3339 with its offset, such as 2024-01-31T12:00:00Z"
CASES: Final = [
    ("post_events", "scale.mid", "unknown_field", "scale has the fields min, max, middle."),
    ("post_events", "events[3].rank", "out_of_range", "a whole number from 0 to 1000000."),
    ("post_events", "action", "unknown_action", f"one of {', '.join(CLIENT_ACTIONS)}."),
    (
        "post_events",
        "item_id",
        "required",
        "is required and takes a text of 1 to 256 characters.",
    ),
    ("post_events", "user_id", "too_long", "user_id takes a text of at most 256 bytes of UTF-8."),
    ("post_events", "occurred_at", "not_a_time", f"occurred_at takes {TIME}."),
    ("post_events", "occurred_at", "out_of_range", f"{TIME}, from 1990-01-01 to 2100-01-01."),
    (
        "post_events",
        "events[1].body",
        "wrong_type",
        "takes an object with the fields item_id, action,",
    ),
    ("post_events", "events", "empty", "events takes a list of 1 to 1000 entries."),
    ("post_events", "mode", "unknown_value", "mode takes one of live, import."),
    ("post_events", "mode", "repeated", "mode may be given once."),
    ("post_events", "Idempotency-Key", "too_long", "a text of 1 to 256 bytes of UTF-8."),
    ("put_item", "tags[3]", "wrong_type", "tags[3] takes a text of at most"),
    ("put_item", "tags", "too_many", "tags takes a list of at most 100 entries."),
    ("put_item", "title", "too_long", "title takes a text of at most 1024 bytes of UTF-8."),
    ("put_item", "embedding", "out_of_range", "embedding takes a list of 1 to 4096 entries."),
    ("put_item", "attributes", "too_many", "attributes takes an object of at most 256 fields."),
    ("put_item", "expires_at", "not_a_time", f"takes a date such as 2024-01-31 or {TIME}."),
    ("put_placement", "recipe.exploration.epsilon", "out_of_range", "takes a number from 0 to 1."),
    ("put_placement", "recipe.owner_cap", "out_of_range", "a number above 0 and at most 1."),
    ("put_placement", "recipe.repeat.view", "not_a_duration", "such as 12h, or never."),
    ("put_item", "available", "wrong_type", "available takes true or false."),
    ("put_item", "item_id", "not_addressable", "takes neither . nor .., which no path can hold."),
    ("item", "item_id", "too_long", "item_id takes a text of 1 to 256 bytes of UTF-8."),
    ("recommend_rows", "requests[0].count", "out_of_range", "a whole number from 1 to 100."),
    ("recommend_rows", "requests", "empty", "requests takes a list of 1 to 20 entries."),
    ("recommend_rows", "explain", "unknown_value", "explain takes one of full, none, reason."),
    ("recommendations", "count", "wrong_type", "count takes a whole number from 1 to 100."),
    ("popular", "window", "unknown_value", "window takes one of 1h, 24h, 7d."),
    (
        "put_placement",
        "recipe.filters.x.y",
        "unknown_field",
        "recipe.filters.x has the fields categories,",
    ),
    ("put_placement", "expected_version", "required", "a whole number from 0 to 9007199254740992."),
    ("put_item", "embedding[3]", "out_of_range", "takes a number from -1000000 to 1000000."),
    ("put_item", "attributes.size", "too_long", "takes a text of at most 1024 bytes of UTF-8 or"),
    ("put_item", "attributes", "too_long", "whose names and texts have a length of at most 1024."),
    ("put_item", "published_at", "out_of_range", f"{TIME}, from 0001-01-01 to 9999-12-31."),
    ("put_item", "body", "too_large", "body makes too large a record"),
    ("post_events", "context", "too_many", "context takes an object of at most 32 fields."),
    ("post_events", "context", "too_long", "whose names and texts have a length of at most 256."),
    ("post_events", "context", "out_of_range", "whose numbers are at most 2^53."),
    ("post_events", "currency", "malformed", "currency takes a code of ISO 4217 in capitals"),
    ("post_events", "currency", "unknown_currency", "currency takes a code of ISO 4217"),
    ("post_events", "value", "out_of_scale", "value must lie on its scale."),
    ("post_events", "scale.max", "out_of_range", "from -1000000000000 to 1000000000000."),
    ("post_events", "occurred_at", "in_the_future", "no time ahead of the server's clock."),
    ("post_events", "events[0].body", "malformed_json", "events[0].body is no valid JSON."),
    ("put_preferences", "hidden_items", "too_many", "takes a list of at most 1000 entries."),
    ("put_preferences", "hidden_items[2]", "too_long", "a text of 1 to 256 bytes of UTF-8."),
    ("recommendations", "after", "malformed", "after takes a position that a write answered"),
    ("recommendations", "cursor", "malformed", "cursor takes the next_cursor of the page before"),
    ("recommendations", "exclude", "too_long", "a text of 1 to 256 bytes of UTF-8."),
    ("recommendations", "exclude", "too_many", "exclude takes a list of at most 500 entries."),
    ("recommendations", "now", "out_of_range", f"{TIME}, from 1990-01-01 to 2100-01-01."),
    ("recommendations", "anonymous_id", "conflicts_with_user_id", "is not taken beside user_id."),
    ("recommend_rows", "requests[1].after", "wrong_partition", "of the same person answered."),
    ("recommend_rows", "requests[1].cursor", "malformed", "takes the next_cursor of the page"),
    ("put_experiment", "experiment_id", "malformed", "takes 1 to 64 letters, digits, ., _ and -."),
    ("put_experiment", "experiment.variants[0].name", "malformed", "name takes 1 to 64 letters,"),
    ("put_experiment", "experiment.variants[0].release", "malformed", "such as 2024-01-31.1, or"),
    ("put_experiment", "experiment.variants[1].share", "out_of_range", "from 0.0001 to 0.5."),
    ("put_experiment", "experiment.variants", "too_few", "takes a list of 2 to 10 entries."),
    ("put_experiment", "experiment.placement", "unknown_placement", "GET /v1/placements lists"),
    ("put_experiment", "experiment.placement", "overlapping_experiment", "a running experiment"),
    ("put_placement", "recipe.weights.popular", "out_of_range", "from -1000000 to 1000000."),
    ("put_placement", "recipe.filters", "malformed", "takes filters by names of 1 to 64 of a-z,"),
    ("put_placement", "recipe.filters.f.tags", "too_many", "a list of at most 100 entries."),
    ("post_events", "user_id", "conflicts", ""),
    ("post_events", "colour", "wrong_type", ""),
]


@pytest.mark.parametrize(("name", "field", "code", "text"), CASES)
def test_a_detail_says_what_is_taken(name: str, field: str, code: str, text: str) -> None:
    found = said(name, field, code)
    assert text in found
    assert bool(text) == bool(found)


def test_every_field_of_every_body_is_described() -> None:
    described = 0
    for route in ROUTES:
        content = (route.openapi_extra or {}).get("requestBody", {}).get("content", {})
        for body in list(content.values())[:1]:
            name = body["schema"].get("$ref", "").rpartition("/")[2]
            fields = definitions()[name]["properties"] if name else {}
            unknown = said_by(route, "colour", "unknown_field")
            assert unknown.startswith("The body has the fields ")
            assert all(field in unknown for field in fields)
            for field in fields:
                assert said_by(route, field, "wrong_type").startswith(f"{field} takes ")
                described += 1
        for parameter in (route.openapi_extra or {}).get("parameters", ()):
            name = parameter["name"]
            assert said_by(route, name, "wrong_type").startswith(f"{name} takes ")
    assert described > 50


def test_unknown_fields_list_those_of_the_types() -> None:
    for kind, name, field in (
        (EventIn, "post_events", "events[0].colour"),
        (RowIn, "recommend_rows", "requests[7].colour"),
        (PageIn, "recommend_rows", "a.name.with.dots"),
    ):
        fields = ", ".join(it.encode_name for it in msgspec.structs.fields(kind))
        assert said(name, field, "unknown_field").endswith(f"has the fields {fields}.")


def test_an_unknown_parameter_lists_those_of_the_query() -> None:
    with pytest.raises(Rejected) as why:
        query.recommendations(b"user_id=u&sw0rdfish=1")
    assert why.value.takes == f"The query takes {', '.join(query.READERS)}."
    with pytest.raises(Rejected) as why:
        list(pairs(b"a=1", ()))
    assert why.value.takes == "The query takes no parameters."


@pytest.mark.parametrize("field", ["rank", "dwell_ms", "value", "quantity"])
def test_the_bounds_of_the_schema_are_those_of_the_edge(field: str) -> None:
    schema = definitions()["EventIn"]["properties"][field]["anyOf"][0]
    least, most = schema["minimum"], schema["maximum"]
    purchase: dict[str, Any] = {**VIEW, "action": "purchase"}
    for number, taken in ((least, True), (most, True), (least - 1, False), (most + 1, False)):
        refused = [] if taken else [(0, field, "out_of_range")]
        assert rejections(send([{**purchase, field: number}, VIEW])) == refused


@pytest.mark.parametrize(
    ("path", "field"),
    [
        *((("Recipe",), name) for name in ("category_cap", "owner_cap", "fresh_days", "depth")),
        (("Recipe", "exploration"), "epsilon"),
        (("Recipe", "fatigue"), "factor"),
        (("Recipe", "fatigue"), "half_life_hours"),
        (("Recipe", "filters", "f"), "published_within_days"),
    ],
)
def test_the_bounds_of_a_recipe_are_those_of_its_check(path: tuple[str, ...], field: str) -> None:
    kind = {"exploration": "Exploration", "fatigue": "Fatigue", "f": "Filter"}.get(
        path[-1], "Recipe"
    )
    schema = definitions()[kind]["properties"][field]
    schema = schema.get("anyOf", [schema])[0]
    least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema["maximum"]
    cases = [(most, True), (most * 2, False), (least, "minimum" in schema), (least - 1, False)]
    for number, taken in cases:
        body: dict[str, Any] = {field: number}
        for step in reversed(path[1:]):
            body = {step: body}
        recipe = msgspec.convert(body, Recipe)
        if taken:
            check_recipe(recipe)
        else:
            with pytest.raises(Rejected, match=f"{field}: out_of_range"):
                check_recipe(recipe)


def test_the_bounds_of_a_context_are_those_of_the_edge() -> None:
    schema = definitions()["EventIn"]["properties"]["context"]["anyOf"][0]
    assert schema["maxProperties"] == MAX_CONTEXT_FIELDS
    assert schema["propertyNames"] == {"maxLength": MAX_CONTEXT_TEXT_LENGTH}


def codes_of(file: Path) -> Iterator[str]:
    """The codes that a file refuses with, as far as they are written there."""
    places = {"Rejected": 1, "_check": 2}  # of the code among the arguments
    for call in ast.walk(ast.parse(file.read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            place = places.get(call.func.id, 9)
            for each in (node for argument in call.args[place:] for node in ast.walk(argument)):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    yield each.value


def test_every_code_of_the_edge_has_a_detail() -> None:
    codes = {
        code
        for file in SOURCES
        for code in codes_of(file)
        if re.fullmatch("[a-z0-9_]*[a-z0-9]", code)
    }
    spoken = _DESCRIBED | set(_MEANINGS) | {"unknown_field"}
    assert len(codes) > 25
    # the first says it itself; the others come from the log alone
    assert codes - spoken == {"unknown_source", "not_json", "older_release", "not_own"}


def test_the_actions_of_the_schema_are_those_of_the_edge() -> None:
    schema = definitions()["EventIn"]["properties"]["action"]
    events = [{**VIEW, "action": name, "value": 1} for name in schema["enum"]]
    assert rejections(send(json.dumps(events).encode())) == []
