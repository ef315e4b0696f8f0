"""Requests themselves: their lines, heads and methods, and ids that look like a route."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from fastapi import FastAPI

from infra.settings import Settings
from serving.app import create
from serving.http.bounds import MAX_HEADERS_BYTES, MAX_LINE_BYTES
from serving.http.guard import Guarded
from tests.support.http import Server, ask, end_offset
from tests.support.shops import logged

ROUTES = create(Settings()).routes
READ = "/v1/recommendations?user_id=u1"


@contextmanager
def raw(edge: Server) -> Iterator[socket.socket]:
    address = edge.connect()
    with closing(socket.create_connection((address.host, address.port), timeout=10)) as found:
        yield found


def answer_to(edge: Server, *pieces: bytes) -> bytes:
    """All that the server sends until it closes."""
    with raw(edge) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("size", [MAX_LINE_BYTES + 1, 1 << 20, 8 << 20])
def test_a_request_line_that_is_too_long_is_a_problem(edge: Server, size: int) -> None:
    target = b"GET " + READ.encode() + b"&exclude=" + b"x" * size
    for end in (b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b""):  # before it ends, too
        answer = answer_to(edge, target, end)
        assert answer.startswith(b"HTTP/1.1 414 ")
        assert b"content-type: application/problem+json\r\n" in answer
        assert b"POST /v1/recommendations" in answer
    head, _, body = answer_to(edge, b"HEAD" + target[3:]).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 414 ")
    assert not body


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/items/\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET v1/items/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"FETCH /v1/items/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    ],
)
def test_what_is_no_request_is_a_problem(edge: Server, sent: bytes) -> None:
    answer = answer_to(edge, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"content-type: application/problem+json\r\n" in answer


def test_a_query_that_is_too_long_is_a_problem_on_every_route(edge: Server) -> None:
    connection = edge.connect()
    for path in ("/v1/recommendations", "/v1/popular", "/v1/status", "/v1/items/i1/similar"):
        answer = ask(connection, "GET", f"{path}?x={'y' * 40_000}")
        assert (answer.status, answer.json["code"]) == (414, "uri_too_long")
        assert answer.errors == [("query", "too_large")]
    assert "POST /v1/recommendations" in answer.json["detail"]
    assert ask(connection, "POST", f"/v1/events?x={'y' * 40_000}", {}).status == 414
    assert ask(connection, "GET", READ + "&exclude=x" * 500).status == 200
    connection.close()


def test_headers_that_are_too_large_are_a_problem(edge: Server) -> None:
    start = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Large: "
    large = b"x" * MAX_HEADERS_BYTES
    many = b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(140))
    for pieces in (
        (start, large, b"\r\n\r\n"),
        (start + large + b"\r\n\r\n",),
        (start, large * 8),
        (start + b"\r\n" + many + b"\r\n",),
    ):
        answer = answer_to(edge, *pieces)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"request_header_fields_too_large" in answer
    # a head of less, with a body of more in one piece
    body = b" " * (200 << 10)
    head = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    assert answer_to(edge, head % len(body) + body).startswith(b"HTTP/1.1 400 ")


def test_every_get_answers_a_head_without_a_body(edge: Server) -> None:
    connection = edge.connect()
    paths = [
        route.path_format.replace("{", "").replace("}", "")
        for route in ROUTES
        if isinstance(route, Guarded) and "GET" in route.taken
    ]
    assert len(paths) > 12
    for path in [*paths, READ]:
        headed = ask(connection, "HEAD", path)
        assert headed.body == b""
        if path.startswith("/v1/recommendations") or path == "/v1/popular":
            continue
        got = ask(connection, "GET", path)
        assert (headed.status, headed.headers["content-type"]) == (
            got.status,
            got.headers["content-type"],
        )
        assert int(headed.headers["content-length"]) > 0
    assert ask(connection, "HEAD", READ).status == 200
    assert ask(connection, "HEAD", "/v1/nothing").status == 404
    connection.close()


def test_a_head_shows_nothing_so_its_slate_is_not_logged(edge: Server) -> None:
    def read() -> int:
        slate = edge.ask("GET", READ).json["slate_id"]
        logged(edge.settings, slate, served=False)
        return end_offset(edge.settings, "slates")

    before = read()
    for path in (READ, "/v1/popular", "/v1/items/i1/similar"):
        assert edge.ask("HEAD", path).status == 200
    assert read() == before + 1


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/events", "OPTIONS, POST"),
        ("/v1/recommendations", "GET, HEAD, OPTIONS, POST"),
        ("/v1/items", "OPTIONS, POST"),
        ("/v1/items/a", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/v1/items/a/similar", "GET, HEAD, OPTIONS"),
        ("/v1/items/a%2Fsimilar", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/v1/users/a:link", "OPTIONS, POST"),
        ("/v1/users/a/preferences", "OPTIONS, PUT"),
        ("/v1/placements/home", "GET, HEAD, OPTIONS, PUT"),
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
def test_allow_is_whole(edge: Server, path: str, allow: str) -> None:
    answer = edge.ask("OPTIONS", path)
    assert (answer.status, answer.headers["allow"], answer.body) == (204, allow, b"")
    answer = edge.ask("TRACE", path)
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert answer.json["code"] == "method_not_allowed"
    assert answer.json["detail"] == f"This path takes {allow}."


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_who_offers_another_protocol_keeps_the_body(edge: Server, name: bytes) -> None:
    body = b'{"user_id": "u1",\r\n"item_id": "Upgrade:", "action": "view"}'
    offer = b"Connection: Upgrade, HTTP2-Settings\r\n%s: h2c\r\nHTTP2-Settings: AA\r\n" % name
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    again = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n%sConnection: close\r\n\r\n" % offer
    for pieces in ((length + body,), (length, body)):
        head = (
            b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + offer
        )
        answer = answer_to(edge, head + pieces[0], *pieces[1:], again)
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert answer.endswith(b'{"status":"alive"}')


def test_options_of_what_is_not_there_is_a_problem(edge: Server) -> None:
    assert edge.ask("OPTIONS", "/v1/nothing").status == 404
    with raw(edge) as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert connection.recv(65536).split(b" ")[1] in (b"400", b"404")


def test_the_description_says_what_every_route_refuses(edge: Server) -> None:
    document = edge.ask("GET", "/openapi.json").json
    app: FastAPI = create(Settings())
    for route in app.routes:
        assert isinstance(route, Guarded)
        for method in route.taken:
            operation = document["paths"][route.path_format][method.lower()]
            assert {"408", "414", "429", "431"} <= operation["responses"].keys()
            reads = "requestBody" in operation
            assert ("415" in operation["responses"]) == reads
            assert ("501" in operation["responses"]) == reads
            assert "400" in operation["responses"]
    for path in ("/v1/events", "/v1/items"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert {"application/json", "application/x-ndjson", "application/jsonl"} <= set(content)
        kinds = content["application/json"]["schema"]["oneOf"]
        assert [kind.get("type", "object") for kind in kinds] == ["object", "object", "array"]
