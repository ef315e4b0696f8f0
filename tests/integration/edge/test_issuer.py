"""Tokens of an authorization server in another process: its keys come, change, and stay away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra import tokens
from infra.local import services
from infra.local.plan import python_path
from infra.signals import die_with_parent
from serving.access.keys import KeySet
from tests.support.http import Server, serving


class Issuer:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.authorization_server"],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
            env={"PYTHONPATH": python_path()},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def post(self, path: str, content: Any) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(content).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def token(self, kid: str, **claims: Any) -> str:
        now = int(time.time())
        content = {
            "iss": self.url, "aud": "freshet", "sub": "u1", "client_id": "shop", "iat": now,
            "exp": now + 300, "scope": "rec:read ops",
        } | claims  # fmt: skip
        made: str = self.post("/token", {"kid": kid, "claims": content})["access_token"]
        return made

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def guarded(
    edge: Server, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose issuer is slow and shows no key at the start."""
    issuer.post("/how", {"seconds": 0.3})
    home = tmp_path_factory.mktemp("guarded")
    settings = msgspec.structs.replace(
        edge.settings,
        auth="on",
        host="127.0.0.1",
        data_dir=home / "data",
        issuer=issuer.url,
        jwks=f"{issuer.url}/keys",
        origins="https://shop.example",
    )
    with serving(settings, home / "log") as server:
        yield server


def status(server: Server, token: str, path: str = "/v1/recommendations?user_id=u1") -> int:
    return server.ask("GET", path, None, {"Authorization": f"Bearer {token}"}).status


def test_keys_come_late_and_change(guarded: Server, issuer: Issuer) -> None:
    first = issuer.token("one")
    assert status(guarded, first) == 503, "it starts without keys, and says that it has none"
    assert guarded.ask("GET", "/health/live").status == 200
    issuer.post("/how", {"seconds": 0.0, "published": "one"})
    services.wait_until(lambda: status(guarded, first) == 200, 20, "the keys do not come")
    assert status(guarded, issuer.token("one", sub="u2")) == 403
    assert status(guarded, issuer.token("one", aud="other")) == 401
    # it signs with the next key before anybody has asked for that: the token that names it fetches it
    second = issuer.token("two")
    issuer.post("/how", {"published": "one two"})
    assert status(guarded, second) == 200
    # once a minute: tokens with ids that are made up cost the issuer nothing
    third = issuer.token("three")
    issuer.post("/how", {"published": "one two three"})
    assert status(guarded, third) == 401
    assert status(guarded, second) == 200


def test_its_own_key_makes_tokens_for_browsers_alone(guarded: Server) -> None:
    own = tokens.make_token(guarded.settings, ["ops"], minutes=5)
    assert status(guarded, own, "/v1/status") == 401
    page = tokens.make_token(
        guarded.settings, ["rec:read"], minutes=5, anonymous_id="a1", origin="https://shop.example"
    )
    headers = {"Authorization": f"Bearer {page}", "Origin": "https://shop.example"}
    path = "/v1/recommendations?anonymous_id=a1"
    assert guarded.ask("GET", path, None, headers).status == 200


def test_metadata_names_the_issuer(guarded: Server, issuer: Issuer) -> None:
    refused = guarded.ask("GET", "/v1/status", None, {"Authorization": ""})
    challenge = refused.headers["www-authenticate"]
    url = challenge.partition('resource_metadata="')[2].partition('"')[0]
    assert url.endswith("/.well-known/oauth-protected-resource")
    found = guarded.ask("GET", url[url.index("/.well") :], None, {"Authorization": ""}).json
    assert found["authorization_servers"] == [issuer.url]
    assert found["resource"] == url.partition("/.well")[0]
    assert {"rec:read", "rec:read:any"} <= set(found["scopes_supported"])


def test_no_token_is_in_the_log(guarded: Server, issuer: Issuer) -> None:
    status(guarded, issuer.token("unheard of"))
    said = Path(guarded.log).read_text()
    assert "eyJ" not in said
    assert said.count("can't be read") <= 2, "what stays wrong is said once"


def test_a_redirect_is_not_followed(issuer: Issuer) -> None:
    issuer.post("/how", {"status": 302})
    keys = KeySet(f"{issuer.url}/keys")
    asyncio.run(keys.refresh(at_once=True))
    assert keys.failure == "the issuer answers 302"
    issuer.post("/how", {"status": 200})
    asyncio.run(keys.refresh(at_once=True))
    assert keys.failure == ""
