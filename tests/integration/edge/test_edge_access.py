"""Access: every route has a scope, and a token guards all of them but health."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from infra.settings import BadSetting, Settings, from_environment
from schemas.access.scopes import SCOPES
from schemas.control import Repeat
from serving.app import create
from serving.http import openapi
from serving.http.guard import Guarded, guarded_router, needs
from serving.http.head import METADATA_PATH, OPEN
from tests.support.http import Server, serving

TOKEN = "s3cret-of-16-bytes"
OPEN_PATHS = {"/health/live", "/health/ready", "/docs", "/openapi.json", METADATA_PATH}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create(Settings())


def test_every_route_declares_a_scope(app: FastAPI) -> None:
    assert app.routes
    for route in app.routes:
        assert isinstance(route, Guarded), route
        assert route.scope in SCOPES or route.path in OPEN_PATHS, route.path


def test_a_route_without_a_scope_cannot_be_registered() -> None:
    async def handler(request: Request) -> Response:
        return Response()

    with pytest.raises(TypeError, match="scope"):
        guarded_router().get("/x")(handler)
    with pytest.raises(ValueError, match="no scope"):
        needs("everything")(handler)


def test_every_route_is_described(app: FastAPI) -> None:
    document = openapi.describe(app)
    schemas = document["components"]["schemas"]
    for route in app.routes:
        assert isinstance(route, Guarded)
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            name = (method, route.path)
            assert operation["summary"], name
            assert operation["x-scope"] == route.scope, name
            assert (operation["security"] == []) == (route.scope == OPEN), name
            assert any(status.startswith("2") for status in operation["responses"]), name
            assert {"400", "421", "429", "503"} <= operation["responses"].keys(), name
            needs_token = {"401", "403"} <= operation["responses"].keys()
            assert needs_token == (route.scope != OPEN), name
            assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}, name
            body = operation.get("requestBody", {"content": {}})["content"]
            assert ("415" in operation["responses"]) == bool(body), name
            assert all(kind != "application/json" or "example" in it for kind, it in body.items())
            assert "HTTPValidationError" not in str(operation), name
            names = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert names == set(route.param_convertors), name
    ids = [it["operationId"] for path in document["paths"].values() for it in path.values()]
    assert len(set(ids)) == len(ids) > 20
    assert document["servers"] == [{"url": "/", "description": "This server"}]
    references = set(_references(document))
    assert references
    assert references <= {f"#/components/schemas/{name}" for name in schemas}


def test_a_recipe_says_when_what_was_seen_comes_back(app: FastAPI) -> None:
    schemas = openapi.describe(app)["components"]["schemas"]
    described = schemas["Recipe"]["properties"]["repeat"]["description"]
    assert "a day after a view or a click, never after a purchase" in described
    fields = schemas["Repeat"]["properties"]
    assert {name: it["default"] for name, it in fields.items()} == msgspec.structs.asdict(Repeat())
    assert msgspec.structs.asdict(Repeat()) == {"view": "1d", "click": "1d", "purchase": "never"}
    assert all(it["description"] for it in fields.values())


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


@pytest.fixture(scope="module")
def guarded(edge: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A second process, with a token."""
    settings = msgspec.structs.replace(edge.settings, token=TOKEN, auth="on", host="127.0.0.1")
    with serving(settings, tmp_path_factory.mktemp("guarded") / "log") as server:
        yield server


@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer é"]
)
def test_a_token_guards_every_route_but_health(
    guarded: Server, app: FastAPI, header: str | None
) -> None:
    headers = {"Authorization": header or ""}
    for route in app.routes:
        assert isinstance(route, Guarded)
        path = route.path_format.replace("{", "").replace("}", "")
        for method in route.methods or ():
            answer = guarded.ask(method, path, b"{}", headers)
            if route.scope == OPEN:
                assert answer.status in (200, 503), path
                continue
            assert (answer.status, answer.json["code"]) == (401, "unauthorized"), path
            challenge = answer.headers["www-authenticate"]
            assert challenge.startswith('Bearer realm="freshet", resource_metadata=')


def test_a_head_needs_the_scope_of_its_get_and_options_need_none(guarded: Server) -> None:
    token = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/v1/placements", "/metrics", "/v1/status"):
        assert guarded.ask("HEAD", path, headers={"Authorization": ""}).status == 401
        assert guarded.ask("HEAD", path, headers=token).status == 200
        assert guarded.ask("OPTIONS", path).headers["allow"] == "GET, HEAD, OPTIONS"
    assert guarded.ask("HEAD", "/health/live").status == 200


def test_a_request_with_the_token_is_answered(guarded: Server) -> None:
    event = {"user_id": "u1", "item_id": "i1", "action": "view"}
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert guarded.ask("POST", "/v1/events", event, headers).status == 202
        assert guarded.ask("GET", "/v1/status", headers=headers).status == 200


def test_without_a_token_other_sites_are_kept_out(edge: Server) -> None:
    event = {"user_id": "u1", "item_id": "i1", "action": "view"}
    for site, status in (("cross-site", 403), ("same-origin", 202), ("none", 202)):
        assert edge.ask("POST", "/v1/events", event, {"Sec-Fetch-Site": site}).status == status


def test_only_where_somebody_was_given_a_token_all_addresses_are_served() -> None:
    assert Settings().bind == "127.0.0.1"
    assert Settings(token=TOKEN).bind == "0.0.0.0"
    assert Settings(token="eyJ0eXAiOiJhdCtqd3QifQ.e30.x").bind == "127.0.0.1"
    assert Settings(issuer="https://id.example", jwks="keys.json").bind == "0.0.0.0"
    with pytest.raises(BadSetting, match="FRESHET_AUTH=off serves this machine alone"):
        from_environment({"FRESHET_HOST": "0.0.0.0", "FRESHET_AUTH": "off"})
    for short in ("of 16 characters", "fifteen-letters"):
        with pytest.raises(BadSetting, match="FRESHET_TOKEN takes 16 characters"):
            from_environment({"FRESHET_TOKEN": short})
    assert from_environment({"FRESHET_TOKEN": f" {TOKEN}\n"}).token == TOKEN


def test_no_key_or_token_is_logged(guarded: Server) -> None:
    assert TOKEN not in Path(guarded.log).read_text()
