"""Bad input: always a 4xx problem that names the field, at once, and never a value in it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple

import pytest

from tests.support.http import Answer, Server, ask, end_offset
from tests.support.whole import whole_only

MB = 1 << 20
SECRET = "sw0rdfish"
EVENT: dict[str, Any] = {"user_id": "u1", "item_id": "i1", "action": "view"}


class Bad(NamedTuple):
    name: str
    method: str
    path: str
    body: bytes
    status: int
    field: str
    headers: dict[str, str] = {}  # noqa: RUF012


def event(**change: Any) -> bytes:
    return json.dumps({**EVENT, **change}).encode()


def of_events() -> Iterator[Bad]:
    def bad(name: str, body: bytes, status: int, field: str, **headers: str) -> Bad:
        return Bad(name, "POST", "/v1/events", body, status, field, headers)

    yield bad("empty", b"", 400, "body")
    yield bad("malformed", b'{"user_id": "' + SECRET.encode(), 400, "body")
    yield bad("not JSON", SECRET.encode(), 400, "body")
    yield bad("NaN", event()[:-1] + b', "value": NaN}', 400, "body")
    yield bad("lone surrogate", event(user_id="\ud800" + SECRET), 400, "body")
    yield bad(
        "invalid UTF-8", b'{"user_id": "\xff\xfe", "item_id": "i", "action": "view"}', 400, "body"
    )
    yield bad("deep arrays", b"[" * 100_000 + b"]" * 100_000, 400, "body")
    yield bad("deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "body")
    yield bad("deep batch", b'{"events":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "body")
    yield bad("deep context", event()[:-1] + b',"context":' + b'{"a":' * 100_000, 400, "body")
    yield bad("no object", b'"' + SECRET.encode() + b'"', 422, "body")
    yield bad("no events", b'{"events": []}', 422, "events")
    yield bad("events null", b'{"events": null}', 422, "events")
    yield bad("many events", b'{"events": [' + b"{}," * 300_000 + b"{}]}", 413, "events")
    yield bad("wrong type", event(item_id=5), 422, "item_id")
    yield bad("bool as number", event(rank=True), 422, "rank")
    yield bad("huge number", event(rank=10**300), 422, "rank")
    yield bad("huge float", event()[:-1] + b', "value": 1e999}', 422, "value")
    yield bad("unknown field", event(user_name=SECRET), 422, "user_name")
    yield bad("unknown action", event(action=SECRET), 422, "action")
    yield bad("no user", b'{"item_id": "i", "action": "view"}', 422, "user_id")
    yield bad("no time", event(occurred_at=SECRET), 422, "occurred_at")
    yield bad("before 1990", event(occurred_at="1989-12-31T00:00:00Z"), 422, "occurred_at")
    yield bad("after 2100", event(occurred_at="2101-01-01T00:00:00Z"), 422, "occurred_at")
    yield bad("control character", event(user_id=SECRET + "\x07"), 422, "user_id")
    yield bad("newline at the end", event(user_id=SECRET + "\n"), 422, "user_id")
    yield bad("C1 control", event(item_id=SECRET + "\x9f"), 422, "item_id")
    yield bad("empty id", event(user_id=""), 422, "user_id")
    yield bad("long id", event(user_id="é" * 129), 422, "user_id")
    yield bad("odd field name", event(**{"\x00\u2028" + "y" * 500: 1}), 422, "??" + "y" * 62)
    yield bad("bad sent_at", b'{"events": [%s], "sent_at": "x"}' % event(), 422, "sent_at")
    yield bad("bad key", event(), 422, "Idempotency-Key", **{"Idempotency-Key": "k" * 257})
    lines = {"Content-Type": "application/x-ndjson"}
    yield bad("bad line", b"\xff\n\n", 422, "events[0].body", **lines)
    yield bad("blank lines", b"\n" * MB, 413, "events", **lines)
    yield bad("1 MiB and one", b" " * (MB + 1), 413, "body")


def of_others() -> Iterator[Bad]:
    yield Bad("bad mode", "POST", "/v1/events?mode=x", event(), 422, "mode")
    yield Bad("odd parameter", "POST", "/v1/events?a%00=1", event(), 422, "query")
    yield Bad("item NaN", "PUT", "/v1/items/i1", b'{"embedding": [NaN]}', 400, "body")
    yield Bad("item inf", "PUT", "/v1/items/i1", b'{"embedding": [1e999]}', 422, "embedding[0]")
    yield Bad("item field", "PATCH", "/v1/items/i1", b'{"titel": ""}', 422, "titel")
    yield Bad("item type", "PATCH", "/v1/items/i1", b'{"title": 5}', 422, "title")
    yield Bad(
        "item deep", "PUT", "/v1/items/i1", b'{"attributes":' + b"[" * 100_000, 422, "attributes"
    )
    yield Bad("item id", "PUT", "/v1/items/%00" + SECRET, b"{}", 422, "item_id")
    yield Bad("line end in an id", "PUT", f"/v1/items/{SECRET}%0Aa", b"{}", 422, "item_id")
    yield Bad("line end after an id", "GET", f"/v1/items/{SECRET}%0A", b"", 422, "item_id")
    yield Bad("item UTF-8", "PUT", "/v1/items/%ff" + SECRET, b"{}", 422, "item_id")
    yield Bad("long item id", "DELETE", "/v1/items/" + "x" * 257, b"", 422, "item_id")
    yield Bad("no item id", "POST", "/v1/items", b"{}", 422, "item_id")
    yield Bad("items null", "POST", "/v1/items", b'{"items": 5}', 422, "items")
    yield Bad(
        "preferences",
        "PUT",
        "/v1/users/u1/preferences",
        b'{"hidden_items": "x"}',
        422,
        "hidden_items",
    )
    yield Bad("user id", "PUT", "/v1/users/%1b/preferences", b"{}", 422, "user_id")
    yield Bad("link", "POST", "/v1/users/u1:link", b"{}", 422, "anonymous_id")
    yield Bad(
        "link id", "POST", "/v1/users/u1:link", b'{"anonymous_id": "\\u0001"}', 422, "anonymous_id"
    )
    yield Bad("unlink", "POST", "/v1/users/u1:unlink", b"{}", 422, "anonymous_id")
    yield Bad(
        "placement",
        "PUT",
        "/v1/placements/home",
        b'{"recipe": {"weights": {}}, "expected_version": 0}',
        422,
        "recipe.weights",
    )
    yield Bad(
        "experiment",
        "PUT",
        f"/v1/experiments/{SECRET}",
        b'{"experiment": {"placement": "%s", "variants": []}, "expected_version": 0}'
        % SECRET.encode(),
        422,
        "experiment.variants",
    )
    yield Bad("no experiment", "GET", f"/v1/experiments/{SECRET}%0A", b"", 422, "experiment_id")


BAD = [*of_events(), *of_others()]


def check(answer: Answer, bad: Bad) -> None:
    assert answer.status == bad.status, (bad.name, answer)
    assert answer.headers["content-type"] == "application/problem+json"
    assert list(answer.json) == [
        "type",
        "title",
        "status",
        "code",
        "detail",
        "errors",
        "request_id",
    ]
    assert answer.json["status"] == answer.status
    assert [field for field, _ in answer.errors] == [bad.field], bad.name
    assert SECRET not in answer.body.decode()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_a_problem_that_names_the_field(edge: Server, bad: Bad) -> None:
    check(edge.ask(bad.method, bad.path, bad.body, bad.headers), bad)


def test_no_bad_input_reaches_the_log(edge: Server) -> None:
    before = [end_offset(edge.settings, topic) for topic in ("events", "items")]
    for bad in BAD:
        edge.ask(bad.method, bad.path, bad.body, bad.headers)
    assert [end_offset(edge.settings, topic) for topic in ("events", "items")] == before


def test_bad_input_is_refused_within_50_ms(edge: Server) -> None:
    connection = edge.connect()
    slow = {}
    for bad in BAD:
        best = 1.0
        for _ in range(20):  # the machine may be busy with others
            started = time.perf_counter()
            ask(connection, bad.method, bad.path, bad.body, bad.headers)
            best = min(best, time.perf_counter() - started)
            if best < 0.05:
                break
        slow[bad.name] = best
    connection.close()
    assert {name: took for name, took in slow.items() if took > 0.05} == {}


POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_a_large_body_is_refused_by_its_content_length(edge: Server) -> None:
    """Nothing of the 10 MB is sent, and the answer is there."""
    connection = edge.connect()
    connection.connect()
    connection.sock.sendall(POST + b"Content-Length: 10485760\r\n\r\n")
    connection.sock.settimeout(5)
    assert connection.sock.recv(65536).startswith(b"HTTP/1.1 413")
    connection.close()


def test_a_large_body_is_refused_while_it_is_read(edge: Server) -> None:
    """Chunks without end: the answer comes after little more than 1 MiB."""
    connection = edge.connect()
    connection.connect()
    connection.sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    connection.sock.settimeout(5)
    sent, answer = 0, b""
    while not answer and sent < 64 * MB:
        connection.sock.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        sent += 65536
        connection.sock.setblocking(sent <= MB)
        try:
            answer = b"" if sent <= MB else connection.sock.recv(65536)
        except BlockingIOError:
            answer = b""
        connection.sock.setblocking(True)
    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 16 * MB
    connection.close()


def test_a_client_of_10_mb_reads_its_413_and_goes_on(edge: Server) -> None:
    connection = edge.connect()
    answer = ask(connection, "POST", "/v1/events", b"x" * (10 * MB))
    assert (answer.status, answer.errors) == (413, [("body", "too_large")])
    assert ask(connection, "POST", "/v1/events", EVENT).status == 202
    connection.close()


def test_an_unknown_route_or_method_is_a_problem(edge: Server) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/redoc", 404),
        ("PUT", "/v1/events", 405),
        ("POST", "/health/live", 405),
    ):
        answer = edge.ask(method, path)
        assert (answer.status, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )
        assert answer.json["code"] in ("not_found", "method_not_allowed")


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ],
)
def test_what_is_no_http_closes_the_connection_and_nothing_else(edge: Server, junk: bytes) -> None:
    address = edge.connect()
    with socket.socket() as raw:
        raw.connect((address.host, address.port))
        raw.settimeout(5)
        raw.sendall(junk)
        raw.shutdown(socket.SHUT_WR)
        assert not raw.recv(65536).startswith((b"HTTP/1.1 2", b"HTTP/1.1 5"))
    assert edge.ask("GET", "/health/live").status == 200


def flood(edge: Server, requests: int) -> None:
    connection: HTTPConnection = edge.connect()
    for n in range(requests):
        bad = BAD[n % len(BAD)]
        assert 400 <= ask(connection, bad.method, bad.path, bad.body, bad.headers).status < 500
        if not n % 500:
            answer = ask(connection, "POST", "/v1/events", b"[" * (10 * MB))
            assert answer.status == 413
    connection.close()


@pytest.mark.parametrize(
    "requests", [1000, pytest.param(10_000, marks=[pytest.mark.check, whole_only])]
)
def test_bad_input_does_not_grow_memory(edge: Server, requests: int) -> None:
    for _ in range(20):
        edge.ask("POST", "/v1/events", EVENT)
    before = edge.rss()
    flood(edge, requests)
    assert edge.rss() - before < 20 * MB
    log = edge.log.read_text()
    assert SECRET not in log
    assert "Traceback" not in log
