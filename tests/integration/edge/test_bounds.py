"""Requests that are no requests, or too large, as a serving process answers them."""

from __future__ import annotations

import json

import pytest

from serving.http.bounds import MAX_HEADERS, MAX_HEADERS_BYTES, MAX_LINE_BYTES
from tests.integration.edge.test_requests import answer_to
from tests.support.http import Server, metric

GET = b"GET /health/live HTTP/1.1\r\n"
POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"x" * MAX_LINE_BYTES
BAD = {
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: localhost\n\n", 400, "malformed"),
    "a bare line feed": (GET + b"Host: localhost\nA: b\r\n\r\n", 400, "malformed"),
    "a bare carriage return": (GET + b"Host: localhost\rA: b\r\n\r\n", 400, "malformed"),
    "a NUL in a header": (GET + b"Host: localhost\0y\r\n\r\n", 400, "malformed"),
    "a NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed"),
    "a folded header": (GET + b"Host: localhost\r\n y\r\n\r\n", 400, "malformed"),
    "a space before a colon": (GET + b"Host : x\r\n\r\n", 400, "malformed"),
    "a tunnel": (b"CONNECT /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "malformed"),
    "no host": (GET + b"A: b\r\n\r\n", 400, "malformed"),
    "two hosts": (GET + b"Host: localhost\r\nHost: localhost\r\n\r\n", 400, "malformed"),
    "an empty host": (GET + b"Host: \r\n\r\n", 400, "malformed"),
    "a host with a user": (GET + b"Host: u@x\r\n\r\n", 400, "malformed"),
    "a host with a path": (GET + b"Host: localhost/y\r\n\r\n", 400, "malformed"),
    "a list of hosts": (GET + b"Host: localhost, y\r\n\r\n", 400, "malformed"),
    "a host beyond ASCII": (GET + b"Host: \xc3\xa9\r\n\r\n", 400, "malformed"),
    "a port that is none": (GET + b"Host: localhost:80a\r\n\r\n", 400, "malformed"),
    "a long host": (GET + b"Host: " + b"x" * 300 + b"\r\n\r\n", 400, "malformed"),
    "an absolute target with a user": (
        b"GET http://u@localhost/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
        400,
        "malformed",
    ),
    "both lengths": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}", 400, "malformed"),
    "one length twice": (
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        400,
        "malformed",
    ),
    "a list of lengths": (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400, "malformed"),
    "a long length": (POST + b"Content-Length: 0000000000002\r\n\r\n{}", 400, "malformed"),
    "a large length": (POST + b"Content-Length: 999999999999\r\n\r\n", 413, "too_large"),
    "another coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "not_implemented"),
    "two codings": (POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n", 400, "malformed"),
    "a long line": (b"GET /" + LONG + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
    "a line without an end": (b"GET /" + LONG, 414, "uri_too_long"),
    "a long header": (
        GET + b"A: " + LONG + b"\r\n\r\n",
        431,
        "request_header_fields_too_large",
    ),
    "a header without an end": (GET + b"A: " + LONG, 431, "request_header_fields_too_large"),
    "many headers": (
        GET + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        431,
        "request_header_fields_too_large",
    ),
    "headers without an end": (
        GET + b"A: b\r\n" * (MAX_HEADERS + 1),
        431,
        "request_header_fields_too_large",
    ),
    "large headers": (
        GET + (b"A: " + b"b" * 1000 + b"\r\n") * (MAX_HEADERS_BYTES // 1000 + 1) + b"\r\n",
        431,
        "request_header_fields_too_large",
    ),
    "no size of a chunk": (CHUNKED + b"x\r\n", 400, "malformed"),
    "a size with a sign": (CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n", 400, "malformed"),
    "a large size": (CHUNKED + b"1000000000000\r\n", 400, "malformed"),
    "a size and a bare line feed": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 400, "malformed"),
    "a chunk of more than its size": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", 400, "malformed"),
    "an extension without an end": (CHUNKED + b"1;" + LONG, 400, "malformed"),
    "many extensions": (CHUNKED + (b"1;" + b"x" * 1000 + b"\r\n \r\n") * 20, 400, "malformed"),
    "a trailer without an end": (
        CHUNKED + b"0\r\nA: " + LONG,
        431,
        "request_header_fields_too_large",
    ),
    "many trailers": (
        CHUNKED + b"0\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1),
        431,
        "request_header_fields_too_large",
    ),
}


@pytest.mark.parametrize(("sent", "status", "code"), BAD.values(), ids=BAD)
def test_what_cannot_be_taken_is_a_problem_however_it_comes(
    edge: Server, sent: bytes, status: int, code: str
) -> None:
    middle = len(sent) // 2
    for pieces in ((sent,), (sent[:middle], sent[middle:]), (sent[:-1], sent[-1:])):
        if status == 413:
            pieces = (sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),)
        head, _, body = answer_to(edge, *pieces).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"content-type: application/problem+json" in head
        assert f"x-request-id: {json.loads(body)['request_id']}".encode() in head
        assert json.loads(body)["code"] == code


def test_the_largest_head_is_taken(edge: Server) -> None:
    last = b"Connection: close\r\n\r\n"
    line = b"GET /health/live?" + LONG
    line = line[: MAX_LINE_BYTES - len(b" HTTP/1.1")] + b" HTTP/1.1\r\n"
    small = b"Host: localhost\r\n" + b"A: b\r\n" * (MAX_HEADERS - 4)
    first = b"B: " + LONG[:-3] + b"\r\n"
    used = len(first) + len(small) + len(last) - 2
    second = b"C: " + b"x" * (MAX_HEADERS_BYTES - used - 5) + b"\r\n"
    head = line + first + second + small + last
    for pieces in ((head,), (head[:-1], head[-1:]), (head[:20_000], head[20_000:])):
        answer = answer_to(edge, *pieces)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    answer = answer_to(edge, head.replace(b"C: ", b"C: x"))
    assert answer.startswith(b"HTTP/1.1 431 "), answer


def test_trailers_and_extensions_are_not_read(edge: Server) -> None:
    body = b'{"user_id": "u1", "item_id": "i1", "action": "view"}'
    chunks = b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in body)
    sent = CHUNKED + chunks + b"0;c\r\nHost: y\r\nContent-Length: 9\r\n\r\n"
    again = GET + b"Host: localhost\r\nConnection: close\r\n\r\n"
    answer = answer_to(edge, sent + again)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert answer.endswith(b'{"status":"alive"}')


def test_what_no_route_answers_is_counted_with_the_problems(edge: Server) -> None:
    name = 'freshet_problems_total{status="431"}'
    before = metric(edge, name)
    answer_to(edge, GET + b"A: " + LONG)
    assert metric(edge, name) == before + 1
