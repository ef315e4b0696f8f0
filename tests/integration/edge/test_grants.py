"""Who may do what: every route, by every kind of token, for oneself and for somebody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra import tokens
from schemas.access.scopes import BROWSER
from serving.app import create
from serving.http.guard import Guarded
from tests.support.grants import (
    OWN,
    SHOP,
    VISITOR,
    Call,
    Role,
    calls,
    expected,
    roles,
    route_of,
)
from tests.support.http import Answer, Server, serving


@pytest.fixture(scope="module")
def guarded(edge: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A process that asks for tokens, its own."""
    home = tmp_path_factory.mktemp("guarded")
    settings = msgspec.structs.replace(
        edge.settings, auth="on", data_dir=home / "data", origins=SHOP, host="127.0.0.1"
    )
    with serving(settings, home / "log") as server:
        yield server


def ask(server: Server, role: Role, call: Call) -> Answer:
    headers = {"Authorization": role.header, "Content-Type": "application/json"}
    if role.origin:
        headers["Origin"] = role.origin
    body = None if call.body is None else json.dumps(call.body).encode()
    return server.ask(call.method, call.path, body, headers)


def test_every_route_admits_whom_it_should_and_nobody_else(guarded: Server) -> None:
    app, every = create(guarded.settings), calls()
    asked = {(route.path, method) for call in every for route in [route_of(app, call)]
             for method in [call.method]}  # fmt: skip
    declared = {(route.path, method) for route in app.routes if isinstance(route, Guarded)
                for method in route.taken}  # fmt: skip
    assert declared - asked <= {("/v1/users/{user_id:id}:link", "POST")}, "a route is not tried"
    wrong = []
    for name, role in roles(guarded.settings).items():
        for call in every:
            wanted = expected(role, call, route_of(app, call).scope)
            answer = ask(guarded, role, call)
            refused = answer.status if answer.status in (401, 403) else None
            if refused != wanted:
                wrong.append((name, call.method, call.path, call.body, wanted, answer.status))
    assert wrong == []


def test_a_batch_with_one_event_of_somebody_else_is_refused_whole(guarded: Server) -> None:
    role = roles(guarded.settings)["a user"]
    view = {"item_id": "i1", "action": "view"}
    body = {"events": [{"user_id": OWN, **view}, {"anonymous_id": VISITOR, **view}]}
    answer = ask(guarded, role, Call("POST", "/v1/events", body))
    assert (answer.status, answer.errors) == (403, [("events[1].anonymous_id", "not_own")])
    challenge = answer.headers["www-authenticate"]
    assert challenge == 'Bearer error="insufficient_scope", scope="events:write:any"'


def test_a_link_needs_proof_of_both_ids(guarded: Server) -> None:
    made = roles(guarded.settings)
    proof = made["a visitor"].header.removeprefix("Bearer ")
    link = f"/v1/users/{OWN}:link"

    def linked(role: str, **body: str) -> int:
        sent = {"anonymous_id": VISITOR, **body}
        return ask(guarded, made[role], Call("POST", link, sent)).status

    assert linked("a user") == 403
    assert linked("a user", anonymous_token=made["a user"].header[7:]) == 403
    assert linked("a user", anonymous_token="nonsense") == 403
    assert linked("a user", anonymous_token=proof, anonymous_id="a2") == 403
    assert linked("a visitor", anonymous_token=proof) == 403
    assert linked("rec:read:any") == 403
    assert linked("a user", anonymous_token=proof) in (200, 202)
    assert linked("events:write:any") in (200, 202)


def test_a_browsers_token_works_from_its_origin_alone(guarded: Server) -> None:
    role = roles(guarded.settings)["a visitor"]
    call = Call("GET", f"/v1/recommendations?anonymous_id={VISITOR}")
    found = ask(guarded, role, call)
    assert found.status == 200
    assert found.headers["access-control-allow-origin"] == SHOP
    assert found.headers["vary"] == "Origin"
    for origin in ("https://evil.example", "null", f"{SHOP}:8443", f"{SHOP}.evil.example", ""):
        refused = ask(guarded, role._replace(origin=origin), call)
        assert (refused.status, refused.json["code"]) == (403, "origin"), origin
        assert "access-control-allow-origin" not in refused.headers
    # a preflight of an origin, a method and a path that may be asked; any other has no such header
    path = "/v1/events"
    for origin, method, target, allowed in (
        (SHOP, "POST", path, True),
        (SHOP, "GET", "/v1/recommendations?anonymous_id=a1", True),
        ("https://evil.example", "POST", path, False),
        ("null", "POST", path, False),
        (SHOP, "DELETE", path, False),
        (SHOP, "PUT", "/v1/items/i1", False),
        (SHOP, "GET", "/v1/status", False),
        (SHOP, "POST", "/v1/tokens", False),
        (SHOP, "POST", "/v1/nothing", False),
    ):
        asked = {"Origin": origin, "Access-Control-Request-Method": method, "Authorization": ""}
        answer = guarded.ask("OPTIONS", target, None, asked)
        assert ("access-control-allow-origin" in answer.headers) == allowed, (origin, target)
        assert "access-control-allow-credentials" not in answer.headers


def test_a_shops_server_makes_tokens_for_its_visitors(guarded: Server) -> None:
    made = roles(guarded.settings)
    body = {"anonymous_id": "a7", "origin": SHOP, "minutes": 5}
    answer = ask(guarded, made["tokens:write"], Call("POST", "/v1/tokens", body))
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    token = answer.json
    assert (token["token_type"], token["expires_in"]) == ("Bearer", 300)
    visitor = Role(f"Bearer {token['access_token']}", BROWSER, "", "a7", SHOP)
    for name, status in (("a7", 200), ("a8", 403)):
        call = Call("GET", f"/v1/recommendations?anonymous_id={name}")
        assert ask(guarded, visitor, call).status == status
    for wrong, field in (
        ({"origin": "https://evil.example"}, "origin"),
        ({"origin": "null"}, "origin"),
        ({"anonymous_id": "undefined"}, "anonymous_id"),
        ({"minutes": 61}, "minutes"),
        ({"scope": "ops"}, "scope"),
    ):
        call = Call("POST", "/v1/tokens", {**body, **wrong})
        refused = ask(guarded, made["tokens:write"], call)
        assert (refused.status, refused.errors[0][0]) == (422, field)


def test_who_changes_something_is_named_by_the_token(guarded: Server) -> None:
    header = (
        f"Bearer {tokens.make_token(guarded.settings, ['exp:admin'], minutes=5, subject='ann')}"
    )
    role = Role(header, frozenset({"exp:admin"}))
    body = {"expected_version": 0, "recipe": {}, "actor": "bob"}
    refused = ask(guarded, role, Call("PUT", "/v1/placements/named", body))
    assert (refused.status, refused.errors) == (422, [("actor", "not_own")])


def test_two_tokens_are_none(guarded: Server) -> None:
    header = roles(guarded.settings)["everything"].header
    connection = guarded.connect()
    connection.putrequest("GET", "/v1/status")
    for value in (header, header):
        connection.putheader("Authorization", value)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (400, "invalid_request")
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "attacker.example"}, 421),
        ({"Host": "127.0.0.1.attacker.example"}, 421),
        ({"Host": "localhost"}, 202),
        ({"Host": "[::1]:8080"}, 202),
        ({"Host": "localhost", "Origin": "http://attacker.example"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 202),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "localhost", "Content-Type": "text/plain"}, 415),
    ],
)
def test_without_tokens_a_page_of_another_site_gets_nothing(
    edge: Server, headers: dict[str, str], status: int
) -> None:
    """As a page sends it whose own name was made to point here, or one that just tries."""
    event = {"user_id": "u1", "item_id": "i1", "action": "view"}
    assert edge.ask("POST", "/v1/events", event, headers).status == status
    if status != 415:
        read = edge.ask("GET", "/v1/recommendations?user_id=u1", None, headers)
        assert read.status == (200 if status == 202 else status)


def test_a_server_without_tokens_says_so(edge: Server, guarded: Server) -> None:
    assert "FRESHET_AUTH=off" in Path(edge.log).read_text()
    assert edge.ask("GET", "/v1/status").json["auth"] == "off"
    assert "FRESHET_AUTH" not in Path(guarded.log).read_text()
    assert guarded.ask("GET", "/v1/status").json["auth"] == "on"
