"""How often a client may ask: over HTTP, of one process and of two, with the store there and away."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra import tokens
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from schemas.access.scopes import BROWSER
from serving.state.leases import PERIOD_SECONDS
from tests.support.http import Answer, Server, metric, serving

pytestmark = pytest.mark.on_cluster

SHOP = "https://shop.example"
VIEW = {"item_id": "i1", "action": "view"}


@contextmanager
def limited(edge: Server, home: Path, **limits: str) -> Iterator[Server]:
    """A process that asks for tokens, with these limits."""
    settings = msgspec.structs.replace(
        edge.settings, auth="on", data_dir=home / "data", host="127.0.0.1", origins=SHOP, **limits
    )
    forget(settings)
    with serving(settings, home / "log") as server:
        yield server


def forget(settings: Settings) -> None:
    with redis_client.connect(settings) as client:
        for name in client.scan_iter(match=b"lm:*"):
            client.delete(name)


def token(server: Server, scopes: Any, client: str, **named: Any) -> dict[str, str]:
    made = tokens.make_token(server.settings, scopes, minutes=5, client=client, **named)
    return {"Authorization": f"Bearer {made}"}


def read(server: Server, headers: dict[str, str], user: str = "u1") -> Answer:
    return server.ask("GET", f"/v1/recommendations?user_id={user}", None, headers)


def send(server: Server, headers: dict[str, str], user: str = "u1", n: int = 1) -> Answer:
    body: Any = [{"user_id": user, **VIEW}] * n
    return server.ask("POST", "/v1/events", {"events": body} if n > 1 else body[0], headers)


@contextmanager
def redis_of_my_own(home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = services.free_port()
    process = subprocess.Popen(
        services.redis_command(port, home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"redis://{services.HOST}:{port}/0"
    try:
        services.wait_until(lambda: services.redis_answers(url), 20, "Redis does not answer")
        yield url, process
    finally:
        process.kill()
        process.wait()


def used_up(ask: Callable[[], int]) -> int:
    """How often the answer was 202 before it was 429 for a second."""
    accepted, refused_since = 0, 0.0
    while not refused_since or time.monotonic() - refused_since < 1:
        status = ask()
        assert status in (202, 429)
        if status == 202:
            accepted, refused_since = accepted + 1, 0.0
        else:
            refused_since = refused_since or time.monotonic()
            time.sleep(PERIOD_SECONDS / 10)
    return accepted


def test_reads_of_a_client_are_bounded_and_say_so(edge: Server, tmp_path: Path) -> None:
    with limited(edge, tmp_path, limit_reads="2/10") as server:
        one, other = (token(server, ("rec:read:any",), name) for name in ("one", "other"))
        lies = {**one, "X-Forwarded-For": "10.0.0.1", "RateLimit": '"reads";r=9;t=1'}
        began = time.monotonic()
        found = [read(server, lies, f"u{n}") for n in range(40)]
        seconds = time.monotonic() - began
        admitted = sum(it.status == 200 for it in found)
        assert 10 <= admitted <= 10 + 2 * seconds + 1
        first, last = found[0], found[-1]
        assert first.headers["ratelimit-policy"] == '"reads";q=10;w=5'
        assert first.headers["ratelimit"] == '"reads";r=9;t=1'
        assert (last.status, last.json["code"]) == (429, "too_many_requests")
        assert last.headers["retry-after"] == "1"
        assert last.headers["ratelimit"].startswith('"reads";r=0;t=')
        assert "reads" in last.json["detail"]
        assert read(server, other).status == 200
        page = {"requests": [{"user_id": f"u{n}"} for n in range(11)]}
        refused = server.ask("POST", "/v1/recommendations", page, other)
        assert (refused.status, refused.json["code"]) == (429, "too_many_at_once")
        assert "retry-after" not in refused.headers
        services.wait_until(lambda: read(server, one).status == 200, 20, "it does not come back")
        assert metric(server, 'freshet_limited_total{policy="reads"}') >= 1


def test_a_subject_is_bounded_where_the_token_is_of_them_alone(
    edge: Server, tmp_path: Path
) -> None:
    with limited(
        edge, tmp_path, limit_reads_subject="0.01/3", limit_events_subject="0.01/4"
    ) as server:
        ann, ben = (token(server, BROWSER, "app", subject=name) for name in ("ann", "ben"))
        shop = token(server, ("rec:read:any", "events:write:any"), "app")
        assert [read(server, ann, "ann").status for _ in range(5)] == [200] * 3 + [429] * 2
        assert read(server, ben, "ben").status == 200
        assert all(read(server, shop, "ann").status == 200 for _ in range(5))
        # the burst, and a lease of 1
        assert 4 <= used_up(lambda: send(server, ann, "ann").status) <= 4 + 1
        assert send(server, ben, "ben").status == 202


def test_two_processes_admit_the_burst_and_a_lease_each(edge: Server, tmp_path: Path) -> None:
    limits = {"limit_events": "20/60"}
    with limited(edge, tmp_path, **limits) as server:
        settings = msgspec.structs.replace(server.settings, port=0)
        with serving(settings, tmp_path / "other") as other:
            headers = token(server, ("events:write:any",), "one")
            began, admitted = time.monotonic(), 0
            while time.monotonic() - began < 3:
                for process in (server, other):
                    answer = send(process, headers, n=5)
                    admitted += 5 * (answer.status == 202)
                    assert answer.status in (202, 429)
            seconds = time.monotonic() - began
            assert admitted <= 60 + 20 * seconds + 2 * 20
            assert admitted >= 60
            too_many = send(server, headers, n=61)
            assert (too_many.status, too_many.json["code"]) == (429, "too_many_at_once")


def test_who_does_as_retry_after_says_is_admitted(edge: Server, tmp_path: Path) -> None:
    """A request of more than a lease, and less than the burst."""
    with limited(edge, tmp_path, limit_events="10/1000") as server:
        headers = token(server, ("events:write:any",), "one")
        refused = send(server, headers, n=100)
        assert refused.status == 429
        time.sleep(int(refused.headers["retry-after"]) + 0.5)
        assert send(server, headers, n=100).status == 202


def test_a_store_that_is_full_still_answers_reads(edge: Server, tmp_path: Path) -> None:
    with limited(edge, tmp_path, limit_reads="5/10") as server:
        headers = token(server, ("rec:read:any",), "one")
        assert read(server, headers).json["fallback"] != "store_down"
        with redis_client.connect(server.settings) as client:
            nodes = list(redis_client.servers(client))
            try:
                for node in nodes:
                    node.config_set("maxmemory", "1")
                found = [read(server, headers) for _ in range(30)]
            finally:
                for node in nodes:
                    node.config_set("maxmemory", "0")
        fallbacks = [it.json["fallback"] for it in found if it.status == 200]
        assert fallbacks
        assert "store_down" not in fallbacks
        assert [it.status for it in found][-1] == 429  # counted by the process


def test_a_body_that_cannot_be_read_is_counted_and_no_more_than_that(
    edge: Server, tmp_path: Path
) -> None:
    with limited(edge, tmp_path, limit_events="0.01/3") as server:
        headers = {
            **token(server, ("events:write:any",), "one"),
            "Content-Type": "application/json",
        }
        found = [server.ask("POST", "/v1/events", b"{", headers).status for _ in range(8)]
        assert found[0] == 400
        assert found[-1] == 429
        assert 1 <= found.count(400) <= 4


def test_a_quota_of_new_items_and_categories(edge: Server, tmp_path: Path) -> None:
    with limited(
        edge, tmp_path, quota_items="40", quota_categories="20", limit_items="1000/2000"
    ) as server:
        headers = token(server, ("items:write",), "one")

        def put(n: int, category: str = "c") -> int:
            item = {"title": "T", "category": category}
            return server.ask("PUT", f"/v1/items/new-{tmp_path.name}-{n}", item, headers).status

        assert [put(1) for _ in range(10)] == [202] * 10  # of one item, which is counted once
        numbers = count(2)
        waiting = [next(numbers)]

        def put_next() -> int:
            status = put(waiting[0])
            if status == 202:
                waiting[0] = next(numbers)
            return status

        assert 40 - 1 <= used_up(put_next) <= 40 + 4
        assert put(1) == 202
        assert put(1, "other") == 202
        assert server.ask("PUT", "/v1/items/i1", {"title": "T"}, headers).status in (202, 429)


def test_a_quota_of_new_people(edge: Server, tmp_path: Path) -> None:
    with limited(edge, tmp_path, quota_people="40") as server:
        headers = token(server, ("events:write:any",), "one")
        numbers = count()

        def send_next() -> int:
            time.sleep(PERIOD_SECONDS / 20)
            return send(server, headers, f"{tmp_path.name}-{next(numbers)}").status

        # what comes between two looks is beyond the quota
        assert 4 <= used_up(send_next) <= 40 + 4 + 60
        refused = send(server, headers, f"{tmp_path.name}-{next(numbers)}")
        assert "new-people" in refused.json["detail"]
        assert send(server, headers, f"{tmp_path.name}-0").status == 202


@pytest.mark.check
def test_while_the_store_is_away_the_rate_goes_on_and_nothing_is_administered(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if request.getfixturevalue("redis_kind") == "cluster":
        pytest.skip("the store of one server is stopped")
    with redis_of_my_own(tmp_path) as (url, process):
        settings = Settings(
            kafka_bootstrap=broker,
            redis_url=url,
            data_dir=tmp_path / "data",
            port=0,
            host="127.0.0.1",
            origins=SHOP,
            limit_events="20/40",
            limit_reads="20/40",
        )
        with serving(settings, tmp_path / "log") as server:
            headers = token(server, ("events:write:any", "rec:read:any", "tokens:write"), "one")
            assert send(server, headers, n=5).status == 202
            made = {"anonymous_id": "a1", "origin": SHOP}
            assert server.ask("POST", "/v1/tokens", made, headers).status == 200
            process.kill()
            process.wait()
            refused = server.ask("POST", "/v1/tokens", made, headers)
            assert (refused.status, refused.json["code"]) == (503, "store_down")
            began, sent, shown = time.monotonic(), 0, 0
            while time.monotonic() - began < 2:
                sent += send(server, headers).status == 202
                shown += read(server, headers).status == 200
            seconds = time.monotonic() - began
            assert 10 <= sent <= 2 * 20 + 20 * seconds + 1
            assert 10 <= shown <= 40 + 20 * seconds + 1
