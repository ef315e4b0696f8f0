"""Placements and experiments from the edge through the fold to what is served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from kafka import KafkaProducer

from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from schemas.control import Change, Current, Released
from schemas.keys import PLAIN
from schemas.topics import CONTROL
from tests.flows.faults import spawn
from tests.support.http import Answer, Server, serving

pytestmark = pytest.mark.on_cluster

RELEASES = ("2026-11-23.1", "2026-11-23.2")
HALVES: list[dict[str, Any]] = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]


@pytest.fixture(scope="module")
def edge(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A serving process and the flow `control`. Two releases are there, the second is current."""
    home = tmp_path_factory.mktemp("control")
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0)
    kafka_client.ensure_topics(settings)
    publish(settings)
    flow = spawn(settings, "control", home / "flow.log")
    try:
        with serving(settings, home / "log") as server:
            until(lambda: server.ask("GET", "/health/ready"), lambda answer: answer.status == 200)
            put(server, "/v1/placements/shelf", recipe={"weights": {"popular": 1}})
            until_in_force(server, "/v1/placements/shelf", 1)
            yield server
    finally:
        flow.kill()
        flow.wait()


def publish(settings: Settings) -> None:
    """Publishes releases as the trainer does. Those that the log holds from another test are stale."""
    producer: KafkaProducer = kafka_client.producer(settings)
    settings_put: list[tuple[str, str, Any]] = [
        ("release", name, Released(manifest_sha256="0" * 64)) for name in RELEASES
    ]
    for subject, identifier, body in [
        *settings_put,
        ("policy", "release", Current(release=RELEASES[1])),
    ]:
        change = Change(
            subject=subject,  # type: ignore[arg-type]
            id=identifier,
            expected_version=0,
            body=msgspec.Raw(msgspec.json.encode(body)),
            received_at=0,
        )
        producer.send(CONTROL.name, value=msgspec.json.encode(change), partition=0)
    producer.flush()
    producer.close()


def until(ask: Any, in_force: Any) -> Any:
    found: list[Any] = []

    def asked() -> bool:
        found[:] = [ask()]
        return bool(in_force(found[0]))

    services.wait_until(asked, 20, "it does not come")
    return found[0]


def put(edge: Server, path: str, expected_version: int = 0, **body: Any) -> Answer:
    answer = edge.ask("PUT", path, {"expected_version": expected_version, "actor": "me", **body})
    assert answer.status == 202, answer.body
    return answer


def until_in_force(edge: Server, path: str, version: int) -> Any:
    """The answer's body at `path` once this version is in force."""

    def in_force(answer: Answer) -> bool:
        return answer.status == 200 and answer.json["version"] == version

    return until(lambda: edge.ask("GET", path), in_force).json


def test_a_placement_is_put_and_in_force(edge: Server) -> None:
    recipe = {"weights": {"popular": 2.0}, "filters": {"new": {"published_within_days": 30}}}
    receipt = put(edge, "/v1/placements/page", recipe=recipe, reason="why").json
    assert receipt["position"].startswith("0:")
    body = until_in_force(edge, "/v1/placements/page", 1)
    assert (body["placement"], body["rules"], body["built_in"]) == ("page", "r1", False)
    assert (body["actor"], body["reason"]) == ("me", "why")
    assert body["received_at"].endswith("Z")
    # whole, with the defaults filled in
    assert body["recipe"]["weights"] == {"popular": 2.0}
    assert body["recipe"]["exploration"] == {"epsilon": 0.0}
    assert body["recipe"]["filters"]["new"]["published_within_days"] == 30
    assert body["recipe"]["depth"] == 200
    answer = edge.ask("GET", "/v1/recommendations?user_id=u1&placement=page")
    assert answer.json["served_by"]["rules"] == "r1"
    # a body that was read can be put
    put(edge, "/v1/placements/page", 1, recipe={**body["recipe"], "depth": 9})
    body = until_in_force(edge, "/v1/placements/page", 2)
    assert (body["recipe"]["depth"], body["rules"]) == (9, "r2")


def test_a_built_in_placement_is_shown_too(edge: Server) -> None:
    body = edge.ask("GET", "/v1/placements/popular").json
    assert (body["version"], body["rules"], body["built_in"]) == (0, "r0", True)
    assert (body["received_at"], body["recipe"]["weights"]) == (None, {"popular": 1.0})
    names = [each["placement"] for each in edge.ask("GET", "/v1/placements").json["placements"]]
    assert {"home", "popular", "replay", "shelf"} <= set(names)
    assert names == sorted(names)


def test_the_second_of_two_puts_has_no_effect(edge: Server) -> None:
    for depth in (5, 6):
        put(edge, "/v1/placements/race", recipe={"depth": depth})
    put(edge, "/v1/placements/race", 1, recipe={"depth": 7})
    assert until_in_force(edge, "/v1/placements/race", 2)["recipe"]["depth"] == 7


def test_an_experiment_is_put_and_in_force(edge: Server) -> None:
    path = "/v1/experiments/shelf-ranker"
    variants = [HALVES[0], {**HALVES[1], "placement": "popular", "release": RELEASES[0]}]
    put(edge, path, experiment={"placement": "shelf", "variants": variants}, reason="why")
    body = until_in_force(edge, path, 1)
    assert (body["experiment_id"], body["actor"], body["reason"]) == ("shelf-ranker", "me", "why")
    assert body["experiment"] == {
        "placement": "shelf",
        "variants": [
            {**HALVES[0], "placement": "", "release": ""},
            {**HALVES[1], "placement": "popular", "release": RELEASES[0]},
        ],
        "running": True,
        "salt": "",
    }
    every = edge.ask("GET", "/v1/experiments").json["experiments"]
    assert [each for each in every if each["experiment_id"] == "shelf-ranker"] == [body]

    # while it runs, no other experiment runs there
    answer = ask_for(edge, "other", {"placement": "shelf", "variants": HALVES})
    assert (answer.status, answer.errors) == (
        422,
        [("experiment.placement", "overlapping_experiment")],
    )
    put(edge, path, 1, experiment={**body["experiment"], "running": False})
    until_in_force(edge, path, 2)
    assert ask_for(edge, "other", {"placement": "shelf", "variants": HALVES}).status == 202
    until_in_force(edge, "/v1/experiments/other", 1)


def ask_for(edge: Server, identifier: str, experiment: Any) -> Answer:
    body = {"expected_version": 0, "experiment": experiment}
    return edge.ask("PUT", f"/v1/experiments/{identifier}", body)


@pytest.mark.parametrize(
    ("recipe", "field", "code"),
    [
        ({"exploration": {"epsilon": 1.5}}, "exploration.epsilon", "out_of_range"),
        ({"exploration": {"epsilon": "much"}}, "exploration.epsilon", "wrong_type"),
        ({"exploration": {"epsilon": 10**400}}, "exploration.epsilon", "out_of_range"),
        ({"weights": {"astrology": 1}}, "weights", "unknown_source"),
        ({"weights": {}}, "weights", "empty"),
        ({"owner_cap": 0}, "owner_cap", "out_of_range"),
        ({"fatigue": {"factor": 2}}, "fatigue.factor", "out_of_range"),
        ({"fatigue": {"half_life_hours": -1}}, "fatigue.half_life_hours", "out_of_range"),
        ({"fresh_days": 1e9}, "fresh_days", "out_of_range"),
        ({"depth": 10**40}, "depth", "out_of_range"),
        ({"filters": {"all": {}}}, "filters.all", "empty"),
        ({"filters": {"a b": {"tags": ["t"]}}}, "filters", "malformed"),
        ({"filters": {"a": {"tags": "t"}}}, "filters[...].tags", "wrong_type"),
        ({"epsilon": 0.5}, "epsilon", "unknown_field"),
    ],
)
def test_a_bad_recipe_is_refused_by_field(edge: Server, recipe: Any, field: str, code: str) -> None:
    body = {"expected_version": 0, "recipe": recipe}
    answer = edge.ask("PUT", "/v1/placements/bad", body)
    assert (answer.status, answer.errors) == (422, [(f"recipe.{field}", code)])


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"placement": "nowhere"}, "experiment.placement", "unknown_placement"),
        ({"placement": 5}, "experiment.placement", "wrong_type"),
        ({"variants": HALVES[:1]}, "experiment.variants", "too_few"),
        ({"variants": [*HALVES, HALVES[0]]}, "experiment.variants[0].share", "out_of_range"),
        ({"variants": [HALVES[0], HALVES[0]]}, "experiment.variants[1].name", "repeated"),
        (
            {"variants": [HALVES[0], {"name": "b;v=2", "share": 0.5}]},
            "experiment.variants[1].name",
            "malformed",
        ),
        (
            {"variants": [HALVES[0], {**HALVES[1], "placement": "nowhere"}]},
            "experiment.variants[1].placement",
            "unknown_placement",
        ),
        (
            {"variants": [{**HALVES[0], "release": "2020-01-01.1"}, HALVES[1]]},
            "experiment.variants[0].release",
            "missing_release",
        ),
        (
            {"variants": [{**HALVES[0], "release": "../etc"}, HALVES[1]]},
            "experiment.variants[0].release",
            "malformed",
        ),
        ({"layers": 2}, "experiment.layers", "unknown_field"),
    ],
)
def test_a_bad_experiment_is_refused_by_field(
    edge: Server, change: Any, field: str, code: str
) -> None:
    answer = ask_for(edge, "bad", {"placement": "popular", "variants": HALVES, **change})
    assert (answer.status, answer.errors) == (422, [(field, code)])


@pytest.mark.parametrize("path", ["/v1/experiments/bad", "/v1/placements/bad"])
@pytest.mark.parametrize(
    ("body", "status", "field", "code"),
    [
        (b"", 400, "body", "empty"),
        (b"{", 400, "body", "malformed_json"),
        (b'{"expected_version": NaN}', 400, "body", "malformed_json"),
        (b"[" * 100_000, 422, "body", "wrong_type"),
        (b"{}", 422, "expected_version", "required"),
        (b'{"expected_version": -1}', 422, "expected_version", "out_of_range"),
        (b'{"surprise": 1}', 422, "surprise", "unknown_field"),
    ],
)
def test_a_bad_body_is_refused(
    edge: Server, path: str, body: bytes, status: int, field: str, code: str
) -> None:
    answer = edge.ask("PUT", path, body)
    if code == "required":  # either of the two may come first
        assert answer.errors[0][1] == code
        return
    assert (answer.status, answer.errors) == (status, [(field, code)])


def test_bad_ids_in_paths_are_refused(edge: Server) -> None:
    answer = ask_for(edge, "a%3Db", {"placement": "popular", "variants": HALVES})
    assert (answer.status, answer.errors) == (422, [("experiment_id", "malformed")])
    for path in ("/v1/experiments/a%00", "/v1/placements/a%00"):
        for method in ("GET", "PUT"):
            answer = edge.ask(method, path, b"{}" if method == "PUT" else None)
            assert (answer.status, answer.errors[0][1]) == (422, "control_character")


def test_missing_placements_and_experiments_are_not_found(edge: Server) -> None:
    for path, code in (
        ("/v1/placements/nowhere", "unknown_placement"),
        ("/v1/experiments/nothing", "unknown_experiment"),
    ):
        answer = edge.ask("GET", path)
        assert (answer.status, answer.json["code"]) == (404, code)
        assert edge.ask("GET", f"{path}?x=1").errors == [("x", "unknown_field")]


def test_nothing_of_what_was_refused_is_in_force(edge: Server) -> None:
    with redis_client.connect(edge.settings) as client:
        assert not client.hexists(PLAIN.control_state(), "placement:bad")
        assert not client.hexists(PLAIN.control_state(), "experiment:bad")
    assert edge.ask("GET", "/v1/placements/bad").status == 404
