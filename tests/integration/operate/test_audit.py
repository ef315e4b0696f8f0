"""`audit`: who administered what, and who read other people's data."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request

from infra.cli.tail.command import line
from infra.kafka import kafka_client
from infra.kafka.audit import account, administering
from infra.kafka.records import records
from infra.local import services
from infra.settings import Settings, signing_key
from schemas.access.audit import AuditRecord
from schemas.errors import FreshetError
from schemas.identity import anonymous, pseudonym
from serving.app import create
from serving.edge.identity import People
from serving.http.guard import Guarded
from serving.routes.audited import ADMINISTRATION, who
from tests.support.http import Server, metric, serving
from tests.support.outage import Broker

RECIPE = {"expected_version": 0, "recipe": {"weights": {"popular": 1}}}
BECAUSE = "wegen der Rücknahme"


def audited(settings: Settings) -> list[AuditRecord]:
    """All records of the topic."""
    found = records(settings, "audit", from_beginning=True, until_end=True)
    return [msgspec.convert(it["value"], AuditRecord) for it in found]


def until(settings: Settings, count: int) -> list[AuditRecord]:
    """The records once there are so many."""
    found: list[AuditRecord] = []

    def came() -> bool:
        found[:] = audited(settings)
        return len(found) >= count

    services.wait_until(came, 20, "the records do not come")
    assert len(found) == count
    return found


@pytest.mark.parametrize(
    ("path", "body", "route", "target"),
    [
        ("/v1/placements/home", RECIPE, "/v1/placements/{placement}", "placement:home"),
        (
            "/v1/experiments/e1",
            {
                "expected_version": 3,
                "experiment": {
                    "placement": "home",
                    "variants": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}],
                },
            },
            "/v1/experiments/{experiment_id}",
            "experiment:e1",
        ),
    ],
)
def test_a_change_is_recorded_before_it_is_made_and_before_it_is_answered(
    edge: Server, path: str, body: dict[str, Any], route: str, target: str
) -> None:
    before = len(audited(edge.settings))
    answer = edge.ask("PUT", path, {**body, "reason": "why"}, {"X-Request-Id": "r1"})
    assert answer.status == 202
    # no wait: they are in the log before the answer is sent
    requested, answered = audited(edge.settings)[before:]
    assert msgspec.structs.replace(requested, audit_id="", occurred_at=0) == AuditRecord(
        audit_id="",
        stage="requested",
        kind="administration",
        occurred_at=0,
        client=requested.client,
        method="PUT",
        route=route,
        targets=(target,),
        reason="why",
        request_id="r1",
    )
    assert requested.client in {"local", "token", "home"}
    position = f"control:{answer.json['position']}"
    assert (answered.stage, answered.status, answered.position) == ("answered", 202, position)
    assert answered.audit_id == requested.audit_id
    assert answered.occurred_at >= requested.occurred_at > 0
    # what is wrong changes nothing and is not recorded; the header has the reason where the body has none
    assert edge.ask("PUT", path, {}).status == 422
    edge.ask("PUT", path, body, {"X-Request-Reason": BECAUSE.encode().decode("latin-1")})
    assert [it.reason for it in audited(edge.settings)[before:]] == ["why"] * 2 + [BECAUSE] * 2


def test_every_route_that_administers_records_it() -> None:
    """A new one calls `administering`."""
    routes = [it for it in create(Settings()).routes if isinstance(it, Guarded)]
    found = [it for it in routes if it.scope in ADMINISTRATION and it.taken != {"GET"}]
    assert {it.path for it in found} >= {
        "/v1/placements/{placement}",
        "/v1/experiments/{experiment_id}",
    }
    for route in found:
        called = inspect.unwrap(route.endpoint).__code__.co_names
        assert {"administering", "append_change"} & set(called), route.path
        described = [it["name"] for it in (route.openapi_extra or {})["parameters"]]
        assert "X-Request-Reason" in described, route.path


def test_what_is_shown_of_a_person_is_recorded_and_a_plain_read_is_not(edge: Server) -> None:
    key, before = signing_key(edge.settings), len(audited(edge.settings))
    u1, u2 = pseudonym(*key, "u1"), pseudonym(*key, "u2")
    row = {"user_id": "u1", "explain": "full"}
    for answer in (
        edge.ask("GET", "/v1/recommendations?user_id=u9"),
        edge.ask("GET", "/v1/popular?explain=full"),
        edge.ask("GET", "/v1/recommendations?user_id=u1&explain=full&count=0"),
        edge.ask("GET", "/v1/recommendations?user_id=u1&explain=full"),
        edge.ask("POST", "/v1/recommendations", {"anonymous_id": "a1", "explain": "full"}),
        edge.ask("POST", "/v1/recommendations", {"requests": [row, row, {"user_id": "u2"}]}),
    ):
        assert answer.status in (200, 422)
    found = until(edge.settings, before + 3)[before:]
    assert {(it.kind, it.stage, it.status) for it in found} == {("access", "answered", 200)}
    assert {(it.method, it.targets) for it in found} == {
        ("GET", (f"person:{u1}",)),
        ("POST", (f"person:{anonymous(*key, 'a1')}",)),
        ("POST", (f"person:{u1}",)),
    }
    assert u2 not in str(found)
    assert metric(edge, "freshet_audit_lost_total") == 0


class Caller(NamedTuple):
    client: str
    subject: str = ""
    anonymous_id: str = ""
    token_id: str = ""


@pytest.mark.parametrize(
    ("caller", "wanted"),
    [
        (Caller("shop", "shop", "", "t1"), ("shop", "", "t1")),
        (Caller("console", "u1"), ("console", "user u1", "")),
        (Caller("browser", "", "a1"), ("browser", "visitor a1", "")),
        (Caller("console", "null"), ("console", "", "")),
    ],
)
def test_who_it_is_says_the_token(caller: Caller, wanted: tuple[str, str, str]) -> None:
    people = People((1, b"k" * 32), 4)
    names = {
        "": "",
        "user u1": people.user("u1").pseudonym,
        "visitor a1": people.anonymous("a1").pseudonym,
    }
    app = Starlette()
    app.state.serving = SimpleNamespace(people=people, settings=Settings())
    request = Request({"type": "http", "app": app, "freshet.caller": caller})
    assert who(request) == (wanted[0], names[wanted[1]], wanted[2])


@pytest.fixture
def full(own: Settings, tmp_path: Path) -> Iterator[Server]:
    """A server whose spool has no room."""
    settings = msgspec.structs.replace(own, write_spool_bytes=1)
    with serving(settings, tmp_path / "log") as server:
        yield server


def test_where_nothing_keeps_the_record_nothing_is_changed(
    full: Server, broker_of_my_own: Broker
) -> None:
    broker_of_my_own.kill()

    def refused() -> bool:
        answer = full.ask("PUT", "/v1/placements/home", RECIPE)
        return (answer.status, answer.json["code"]) == (503, "not_durable")

    services.wait_until(refused, 20, "it is not refused")
    assert full.ask("GET", "/v1/recommendations?user_id=u1&explain=full").status == 200
    lost = 'freshet_audit_lost_total{kind="access"} 1'
    services.wait_until(
        lambda: lost in full.ask("GET", "/metrics").body.decode(), 20, "it is not counted"
    )
    assert full.log.read_text().count("records of audit that neither") == 1
    broker_of_my_own.start()


def test_a_read_is_spooled_while_the_broker_is_away(
    own: Settings, broker_of_my_own: Broker, tmp_path: Path
) -> None:
    with serving(own, tmp_path / "log") as server:
        broker_of_my_own.kill()
        assert server.ask("GET", "/v1/recommendations?user_id=u1&explain=full").status == 200
        services.wait_until(
            lambda: metric(server, "freshet_write_spool_records") == 1, 20, "it is not spooled"
        )
        server.process.kill()
        server.process.wait()
    broker_of_my_own.start()
    # another worker takes the spool over, and sends to the only partition of the topic
    with serving(own, tmp_path / "second"):
        (found,) = until(own, 1)
    assert found.targets == (f"person:{pseudonym(*signing_key(own), 'u1')}",)


def test_the_command_line_is_recorded_with_its_account_and_its_outcome(
    redis_url: str, broker: str, tmp_path: Path
) -> None:
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=tmp_path, port=0)
    kafka_client.ensure_topics(settings)
    before = len(audited(settings))
    with administering(settings, "control change", "policy:release", reason="new") as act:
        act.position = "control:0:7"
    with (
        pytest.raises(FreshetError),
        administering(settings, "dead-letters resume", "partition:events:1"),
    ):
        raise FreshetError("refused")
    with pytest.raises(ZeroDivisionError), administering(settings, "control change"):
        raise ZeroDivisionError
    found = audited(settings)[before:]
    assert {(it.client, it.account, it.method) for it in found} == {("cli", account(), "COMMAND")}
    assert [(it.stage, it.status, it.position) for it in found] == [
        ("requested", 0, ""),
        ("answered", 200, "control:0:7"),
        ("requested", 0, ""),
        ("answered", 409, ""),
        ("requested", 0, ""),
        ("answered", 500, ""),
    ]
    assert found[1].reason == "new"


def test_a_line_says_who_what_and_how_it_came_out() -> None:
    value = {
        "audit_id": "a",
        "stage": "requested",
        "kind": "administration",
        "client": "console\x1b[2J",
        "person": "01abcdef0123",
        "method": "PUT",
        "route": "/v1/placements/{placement}",
        "targets": ["placement:home"],
        "reason": "sale",
    }
    record = {"timestamp": 0, "partition": 0, "offset": 0, "value": value}
    said = line("audit", record)
    assert "\x1b[2J" not in said
    for word in ("console", "abcdef01", "PUT", "placement:home", "requested", "sale"):
        assert word in said
    done = line("audit", {**record, "value": {**value, "status": 503, "account": "ann"}})
    assert "ann" in done
    assert "answered 503" in done
