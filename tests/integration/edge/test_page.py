"""Reads by POST give the answer of a GET, and pages whose rows repeat nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.control import Exploration, Fatigue, Filter, Recipe
from tests.support.shops import CATEGORY, ITEMS, Shop, logged, opened

# nothing drawn, so that the same question has the same answer
PLAIN = Recipe(exploration=Exploration(epsilon=0.0), fatigue=Fatigue(factor=1.0))
SHELF = Recipe(filters={"some": Filter(categories=("c1", "c2"))})


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("page")
    with opened(redis_url, broker, home) as found:
        found.control("placement:plain", PLAIN)
        found.control("placement:shelf", SHELF)
        found.until("/v1/recommendations?user_id=u1&placement=shelf", lambda body: "items" in body)
        yield found


def shown(answer: Any) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def read_rows(shop: Shop, body: Any) -> list[Any]:
    answer = shop.post(body)
    assert answer.status == 200, answer.body
    return list(answer.json["rows"])


def same(answer: Any) -> Any:
    """The answer without the fields that differ between two calls."""
    return {k: v for k, v in answer.items() if k not in ("slate_id", "took_ms")}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"count": 3, "explain": "full", "category": "c1"},
        {"item_id": "i7", "exclude": ["i8", "i9"], "max_wait_ms": 0},
        {"personalized": False, "now": "2023-11-15T00:00:00Z", "explain": "none"},
        {"session_id": None, "category": None, "cursor": None},
        dict.fromkeys(("count", "exclude", "max_wait_ms", "explain", "personalized", "requests")),
    ],
)
def test_a_body_gives_the_answer_of_its_query_string(shop: Shop, given: dict[str, Any]) -> None:
    body = {"user_id": "u1", "placement": "plain", **given}
    query = "&".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, held in body.items()
        for value in (held if isinstance(held, list) else [held])
        if value is not None
    )
    answer = shop.post(body)
    assert answer.status == 200, answer.body
    assert same(answer.json) == same(shop.read(query))
    assert answer.headers["x-slate-id"] == answer.json["slate_id"]
    assert answer.headers["server-timing"].startswith("read;dur=")
    assert answer.headers["cache-control"] == "private, no-store"


def test_pages_of_a_body_go_on(shop: Shop) -> None:
    first = shop.post({"user_id": "u1", "placement": "plain"}).json
    second = shop.post({"user_id": "u1", "placement": "plain", "cursor": first["next_cursor"]}).json
    assert not set(shown(first)) & set(shown(second))


def test_rows_of_a_page_repeat_nothing(shop: Shop) -> None:
    page = {"user_id": "u1", "placement": "plain", "count": 7, "distinct": True}
    rows = read_rows(
        shop, {**page, "requests": [{}, {"category": "c1"}, {"count": 5}, {"placement": "home"}]}
    )
    assert [len(row["items"]) for row in rows] == [7, 7, 5, 7]
    every = [item for row in rows for item in shown(row)]
    assert len(every) == len(set(every)) == 26
    assert {item["category"] for item in rows[1]["items"]} == {"c1"}
    assert [row["placement"] for row in rows] == ["plain", "plain", "plain", "home"]
    assert len({row["slate_id"] for row in rows}) == 4
    assert all(row["user_id"] == "u1" for row in rows)
    # and where that is not asked for, rows repeat items
    rows = read_rows(shop, {**page, "distinct": False, "requests": [{}, {}]})
    assert shown(rows[0]) == shown(rows[1])


def test_rows_that_use_up_the_catalogue_are_short(shop: Shop) -> None:
    eligible = [item.item_id for item in ITEMS if CATEGORY[item.item_id] == "c1" and item.available]
    page = {"user_id": "u1", "placement": "plain", "count": 30, "category": "c1"}
    rows = read_rows(shop, {**page, "distinct": True, "requests": [{}, {}, {}]})
    every = [item for row in rows for item in shown(row)]
    assert len(every) == len(set(every))
    # all but what u1 has seen
    assert set(every) == set(eligible) - {"i1", "i2"}
    assert rows[-1]["exhausted"]


def test_every_row_is_logged_as_a_slate(shop: Shop) -> None:
    answer = shop.post({"user_id": "u1", "count": 2, "requests": [{}, {"anonymous_id": "a1"}]})
    rows = answer.json["rows"]
    assert answer.headers["x-slate-id"] == ", ".join(row["slate_id"] for row in rows)
    for row in rows:
        made, served = logged(shop.server.settings, row["slate_id"])
        assert [item.item_id for item in made.items] == shown(row)
        assert served is not None
        assert served.person == made.person
    assert ("user_id" in rows[1], rows[1]["anonymous_id"]) == (True, "a1")
    assert rows[0]["user_id"] == "u1"
    assert rows[1]["user_id"] is None


def test_a_row_waits_for_its_position(shop: Shop) -> None:
    name, partition = shop.where("rows")
    shop.fill_log(partition, 30)
    shop.fold(name, partition, [], 20)
    after = {"after": f"{partition}:19"}
    late = {"after": f"{partition}:25", "max_wait_ms": 30}
    rows = read_rows(shop, {"user_id": "rows", "requests": [after, late, after]})
    assert [row["freshness"]["stale"] for row in rows] == [False, True, False]
    assert rows[1]["freshness"]["waited_ms"] >= 30


def test_a_filter_of_the_placement_is_applied_by_name(shop: Shop) -> None:
    body = shop.read("user_id=u1&placement=shelf&filter=some&count=20")
    assert len(body["items"]) == 20
    wanted = {item.item_id for item in ITEMS if {"c1", "c2"} & {item.category, *item.categories}}
    assert set(shown(body)) <= wanted
    for query in ("placement=shelf&filter=other", "placement=home&filter=some"):
        answer = shop.get(f"/v1/recommendations?user_id=u1&{query}")
        assert (answer.status, answer.errors) == (422, [("filter", "unknown_filter")])


SECRET = "sw0rdfish"
BAD: list[tuple[Any, int, str, str]] = [
    (b"", 400, "body", "empty"),
    (b"{", 400, "body", "malformed_json"),
    (b'{"user_id": NaN}', 400, "body", "malformed_json"),
    (b'{"user_id": "\xff"}', 400, "body", "not_utf8"),
    (b'{"requests":' + b"[" * 100_000, 422, "requests[0]", "wrong_type"),
    ([], 422, "body", "wrong_type"),
    ({}, 422, "user_id", "required"),
    ({"user_id": None}, 422, "user_id", "required"),
    ({"user_id": 5}, 422, "user_id", "wrong_type"),
    ({"user_id": ""}, 422, "user_id", "not_an_id"),
    ({"user_id": SECRET + "\n"}, 422, "user_id", "control_character"),
    ({"user_id": "é" * 129}, 422, "user_id", "too_long"),
    ({"user_id": "u", "anonymous_id": "a"}, 422, "anonymous_id", "conflicts_with_user_id"),
    ({"user_id": "u", "count": 0}, 422, "count", "out_of_range"),
    ({"user_id": "u", "count": 101}, 422, "count", "out_of_range"),
    ({"user_id": "u", "count": 10**40}, 422, "count", "out_of_range"),
    ({"user_id": "u", "count": 1.5}, 422, "count", "wrong_type"),
    ({"user_id": "u", "count": True}, 422, "count", "wrong_type"),
    ({"user_id": "u", "count": "5"}, 422, "count", "wrong_type"),
    ({"user_id": "u", "exclude": "x"}, 422, "exclude", "wrong_type"),
    ({"user_id": "u", "exclude": ["x", ""]}, 422, "exclude[1]", "not_an_id"),
    ({"user_id": "u", "exclude": ["x"] * 501}, 422, "exclude", "too_many"),
    ({"user_id": "u", "cursor": SECRET}, 422, "cursor", "malformed"),
    ({"user_id": "u", "after": SECRET}, 422, "after", "malformed"),
    ({"user_id": "u", "after": "99:1"}, 422, "after", "wrong_partition"),
    ({"user_id": "u", "max_wait_ms": 5001}, 422, "max_wait_ms", "out_of_range"),
    ({"user_id": "u", "explain": SECRET}, 422, "explain", "unknown_value"),
    ({"user_id": "u", "personalized": "true"}, 422, "personalized", "wrong_type"),
    ({"user_id": "u", "now": SECRET}, 422, "now", "not_a_time"),
    ({"user_id": "u", "now": "1989-01-01T00:00:00Z"}, 422, "now", "out_of_range"),
    ({"user_id": "u", "placement": SECRET}, 422, "placement", "unknown_placement"),
    ({"user_id": "u", "filter": SECRET}, 422, "filter", "unknown_filter"),
    ({"user_id": "u", "colour": SECRET}, 422, "colour", "unknown_field"),
    ({"user_id": "u", "context": {}}, 422, "context", "unknown_field"),
    ({"user_id": "u", "seed": 1}, 422, "seed", "unknown_field"),
    ({"user_id": "u", "distinct": True}, 422, "requests", "required"),
    ({"user_id": "u", "requests": []}, 422, "requests", "empty"),
    ({"user_id": "u", "requests": [{}] * 21}, 422, "requests", "too_many"),
    ({"user_id": "u", "count": 100, "requests": [{}] * 6}, 422, "requests", "too_many"),
    ({"user_id": "u", "count": 26, "requests": [{}] * 20}, 422, "requests", "too_many"),
    ({"requests": [{"user_id": "u"}, {}]}, 422, "user_id", "required"),
    ({"user_id": "u", "requests": [{}, {"count": 0}]}, 422, "requests[1].count", "out_of_range"),
    ({"user_id": "u", "requests": [5]}, 422, "requests[0]", "wrong_type"),
    (
        {"user_id": "u", "requests": [{"colour": SECRET}]},
        422,
        "requests[0].colour",
        "unknown_field",
    ),
    (
        {"user_id": "u", "requests": [{"requests": []}]},
        422,
        "requests[0].requests",
        "unknown_field",
    ),
    ({"user_id": "u", "requests": [{"cursor": "!"}]}, 422, "requests[0].cursor", "malformed"),
    (
        {"user_id": "u", "requests": [{}, {"placement": SECRET}]},
        422,
        "requests[1].placement",
        "unknown_placement",
    ),
    (
        {"user_id": "u", "placement": SECRET, "requests": [{}]},
        422,
        "placement",
        "unknown_placement",
    ),
    (
        {"user_id": "u", "requests": [{"filter": SECRET}]},
        422,
        "requests[0].filter",
        "unknown_filter",
    ),
    (
        {"requests": [{"user_id": "u", "anonymous_id": "a"}]},
        422,
        "requests[0].anonymous_id",
        "conflicts_with_user_id",
    ),
    (b" " * ((1 << 20) + 1), 413, "body", "too_large"),
]


def test_the_counts_of_all_rows_are_bounded_and_the_bound_is_taken(shop: Shop) -> None:
    rows = [{"count": 100}] * 4 + [{"count": 99}, {"count": 1}]
    answer = shop.post({"user_id": "u1", "requests": rows})
    assert [len(row["items"]) for row in answer.json["rows"]] == [100] * 4 + [99, 1]
    more = shop.post({"user_id": "u1", "requests": [*rows, {"count": 1}]})
    assert (more.status, more.errors) == (422, [("requests", "too_many")])
    assert "at most 500" in more.json["detail"]


@pytest.mark.parametrize(("body", "status", "field", "code"), BAD, ids=range(len(BAD)))
def test_bad_bodies_are_refused_by_field(
    shop: Shop, body: Any, status: int, field: str, code: str
) -> None:
    answer = shop.post(body)
    assert (answer.status, answer.errors) == (status, [(field, code)]), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.body.decode()


def test_a_post_has_no_parameters(shop: Shop) -> None:
    answer = shop.server.ask("POST", "/v1/recommendations?user_id=u1", {"user_id": "u1"})
    assert (answer.status, answer.errors) == (422, [("user_id", "unknown_field")])


def test_the_schema_describes_both_answers(shop: Shop) -> None:
    document = shop.get("/openapi.json").json
    post = document["paths"]["/v1/recommendations"]["post"]
    named = post["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"]
    assert [it["$ref"].rpartition("/")[2] for it in named] == ["Answer", "PageOut"]
    assert set(document["components"]["schemas"]["RowIn"]["properties"]) == {
        parameter["name"]
        for parameter in document["paths"]["/v1/recommendations"]["get"]["parameters"]
        if parameter["in"] == "query"
    }
