"""Numbers without end where a client gives one: always a 4xx problem at once, never a 500, no value in it."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any, NamedTuple

import pytest

from serving.http.bounds import MAX_LENGTH_DIGITS
from tests.support.http import Answer, Server

DIGITS = 5000
"""More than Python's int() takes of a text."""
NUMBERS = ("9" * DIGITS, "-" + "9" * DIGITS, "0" * DIGITS + "1", "1e" + "9" * DIGITS, "٣" * DIGITS)
"""Numbers without end; the last are digits to str.isdigit and not to HTTP."""


class Place(NamedTuple):
    """A parameter of an operation: a place where a client may send any text."""

    method: str
    path: str
    name: str
    kind: str


def places(description: Any) -> Iterator[Place]:
    """Every parameter of every operation that the server describes."""
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                yield Place(method.upper(), path, parameter["name"], parameter["in"])


def ask(server: Server, place: Place, number: str) -> Answer:
    path, headers = place.path, {}
    if place.kind == "path":
        path = path.replace(f"{{{place.name}}}", escaped(number))
    elif place.kind == "query":
        path += f"?{place.name}={escaped(number)}"
    else:
        headers = {place.name: number}
    path = path.replace("{", "").replace("}", "")
    return server.ask(
        place.method, path, b"{}" if place.method in ("POST", "PUT") else None, headers
    )


def escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" if byte > 127 else chr(byte) for byte in text.encode())


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:2])
def test_no_numeric_parameter_is_answered_with_a_500(edge: Server, number: str) -> None:
    description = edge.ask("GET", "/openapi.json").json
    found = [place for place in places(description) if number.isascii() or place.kind != "header"]
    assert {place.kind for place in found} >= {"path", "query"}
    for place in found:
        answer = ask(edge, place, number)
        assert answer.status < 500, place
        assert number[:40] not in answer.body.decode(), place


def head(length: str, method: str = "POST", path: str = "/v1/events") -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )


def sent(edge: Server, request: bytes) -> Answer:
    """The answer to bytes as they are."""
    connection = edge.connect()
    connection.connect()
    connection.sock.settimeout(10)
    connection.sock.sendall(request)
    response = HTTPResponse(connection.sock)
    response.begin()
    answer = Answer(
        response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    )
    connection.close()
    return answer


@pytest.mark.parametrize("path", ["/v1/events", "/v1/items", "/v1/recommendations"])
def test_a_length_of_5000_digits_is_a_problem(edge: Server, path: str) -> None:
    """Its value is 2 after thousands of zeros: the server refuses the length of the text."""
    answer = sent(edge, head("0" * (DIGITS - 1) + "2", path=path) + b"{}")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.errors == [("Content-Length", "malformed")]
    assert b"0000" not in answer.body


@pytest.mark.parametrize("length", ["9" * DIGITS, "9" * 20, "9" * 19, str(1 << 21)])
def test_a_length_that_is_too_large_is_a_4xx(edge: Server, length: str) -> None:
    assert 400 <= sent(edge, head(length)).status < 500


def test_a_length_with_some_zeros_before_it_is_taken(edge: Server) -> None:
    body = b'{"user_id": "u1", "item_id": "i1", "action": "view"}'
    assert sent(edge, head(f"{len(body):0{MAX_LENGTH_DIGITS}d}") + body).status == 202


@pytest.mark.parametrize("digits", [20, 300, 4000, DIGITS])
@pytest.mark.parametrize("field", ["rank", "value", "dwell_ms", "context", "experiments"])
def test_a_number_in_a_body_is_taken_or_refused_by_its_field(
    edge: Server, field: str, digits: int
) -> None:
    number = "9" * digits
    value = f'{{"a": {number}}}' if field == "context" else number
    body = f'{{"user_id": "u1", "item_id": "i1", "action": "view", "{field}": {value}}}'
    answer = edge.ask("POST", "/v1/events", body.encode())
    assert answer.status in (202, 422), answer.body
    assert number[:20] not in answer.body.decode()
