"""Experiments as a client and an analyst see them: assignment, and its record in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.actions import CODE
from schemas.control import Current, Experiment, Recipe, Variant
from schemas.events import Assigned
from tests.support.shops import Shop, logged, opened

HALVES = (Variant(name="a", share=0.5), Variant(name="b", share=0.5, placement="shelf"))


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("assignment")
    with opened(redis_url, broker, home) as found:
        found.control("placement:shelf", Recipe(weights={"popular": 1.0}), 4)
        found.control("experiment:home-ranker", Experiment(placement="home", variants=HALVES), 3)
        found.control("placement:page", Recipe())
        absent = Variant(name="b", share=0.5, release="2026-01-01.1")
        found.control(
            "experiment:models", Experiment(placement="page", variants=(HALVES[0], absent))
        )
        found.until(
            "/v1/recommendations?user_id=u1&placement=page",
            lambda body: "items" in body and body["served_by"]["experiments"],
        )
        yield found


def variant(answer: Any) -> str:
    [experiment] = answer["served_by"]["experiments"]
    return str(experiment["variant"])


def test_half_of_the_people_get_each_variant_and_keep_it(shop: Shop) -> None:
    first = {n: variant(shop.read(f"user_id=p{n}&count=1")) for n in range(200)}
    # 10 standard deviations of a fair coin either way
    assert 30 < Counter(first.values())["b"] < 170
    for n in (0, 7, 199):
        assert variant(shop.read(f"user_id=p{n}&count=3")) == first[n]


def test_an_answer_names_its_experiment(shop: Shop) -> None:
    for wanted, rules in (("a", "r0"), ("b", "shelf/r4")):
        for n in range(100):
            answer = shop.get(f"/v1/recommendations?user_id=p{n}")
            if variant(answer.json) == wanted:
                break
        assert answer.json["served_by"]["experiments"] == [
            {"id": "home-ranker", "version": 3, "variant": wanted}
        ]
        assert answer.json["served_by"]["rules"] == rules
        assert answer.headers["x-experiments"] == f"home-ranker={wanted};v=3"
        made, served = logged(shop.server.settings, answer.json["slate_id"])
        assert served is not None
        assert made.experiments == served.experiments == (Assigned("home-ranker", 3, wanted),)
        assert (made.placement, served.placement) == ("home", "home")


def test_a_page_names_each_experiment_once(shop: Shop) -> None:
    answer = shop.post({"user_id": "p1", "requests": [{}, {"placement": "page"}, {}]})
    experiments = answer.headers["x-experiments"].split(", ")
    assert [it.partition("=")[0] for it in experiments] == ["home-ranker", "models"]


def test_other_reads_are_in_no_experiment(shop: Shop) -> None:
    for path in ("/v1/recommendations?user_id=p1&placement=shelf", "/v1/popular"):
        answer = shop.get(path)
        assert answer.json["served_by"]["experiments"] == []
        assert "x-experiments" not in answer.headers


def test_a_variant_whose_release_is_not_there_is_served_without_and_says_so(shop: Shop) -> None:
    bodies = {}
    for wanted in ("a", "b"):
        user = next(
            f"p{n}"
            for n in range(100)
            if variant(shop.read(f"user_id=p{n}&placement=page")) == wanted
        )
        shop.fold(*shop.where(user), [("i1", CODE["view"]), ("i2", CODE["like"])], 10)
        bodies[wanted] = shop.read(f"user_id={user}&placement=page")
        assert len(bodies[wanted]["items"]) == 10
    assert (bodies["a"]["fallback"], bodies["b"]["fallback"]) == (None, "no_model")


def test_a_current_release_that_is_not_there_stops_nothing(shop: Shop) -> None:
    shop.control("policy:release", Current(release="2026-01-01.2"))
    shop.control("placement:later", Recipe())
    body = shop.until(
        "/v1/recommendations?user_id=u1&placement=later", lambda body: "items" in body
    )
    assert body["fallback"] == "no_model"
    assert body["items"]
