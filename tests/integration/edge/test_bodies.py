"""Bodies over HTTP: media types, codings, byte order marks, arrays and lines."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from serving.http.media import NDJSON
from tests.support.http import Answer, Server, end_offset, metric

VIEW: dict[str, Any] = {"user_id": "u1", "item_id": "i1", "action": "view"}
EVENT = json.dumps(VIEW).encode()
EVENTS = "/v1/events"
LINES = {"Content-Type": NDJSON[0]}
FORM = "application/x-www-form-urlencoded"
zstd = zstandard.ZstdCompressor().compress

BODIES = [
    ("POST", EVENTS, VIEW, True),
    ("POST", "/v1/items", {"item_id": "i1"}, True),
    ("PUT", "/v1/items/i1", {}, False),
    ("PATCH", "/v1/items/i1", {}, False),
    ("PUT", "/v1/users/u1/preferences", {}, False),
    ("POST", "/v1/users/u1:link", {"anonymous_id": "null"}, False),
    ("POST", "/v1/users/u1:unlink", {"anonymous_id": "null"}, False),
    ("PUT", "/v1/placements/home", {"expected_version": 0, "recipe": {}}, False),
    ("PUT", "/v1/experiments/ab", {}, False),
    ("POST", "/v1/recommendations", {"user_id": "u1"}, False),
]
"""Every route that reads a body, with one; the last: whether it takes lines."""


def send(edge: Server, body: Any, path: str = EVENTS, **headers: str) -> Answer:
    return edge.ask("POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(("method", "path", "body", "lines"), BODIES, ids=lambda v: str(v)[:24])
def test_every_route_names_the_media_types_that_it_takes(
    edge: Server, method: str, path: str, body: Any, lines: bool
) -> None:
    def ask(kind: str) -> Answer:
        return edge.ask(method, path, body, {"Content-Type": kind})

    for kind in ("Application/JSON", "application/json; charset=UTF-8; x=y", "application/json;"):
        assert ask(kind).status not in (400, 415), kind
    others = [
        "",
        "text/json",
        "text/plain;charset=utf-8",
        FORM,
        "application/xml",
        "application/json-seq",
    ]
    for kind in (*others, "application/json; charset=latin-1", "json", *(() if lines else NDJSON)):
        answer = ask(kind)
        assert (answer.status, answer.json["code"]) == (415, "unsupported_media_type"), kind
        assert answer.errors == [("Content-Type", "unsupported" if kind else "required")]
        taken = ["application/json", *NDJSON] if lines else ["application/json"]
        assert answer.headers["accept"].split(", ") == taken
        assert all(name in answer.json["detail"] for name in taken)
        assert ("application/x-ndjson" in answer.json["detail"]) == lines
        if method != "PUT":
            assert answer.headers[f"accept-{method.lower()}"] == answer.headers["accept"]
    answer = edge.ask(method, path, body, {"Content-Encoding": "br"})
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, zstd")


@pytest.mark.parametrize("kind", [*NDJSON, "Application/X-NDJSON; charset=utf-8"])
def test_lines_have_many_names(edge: Server, kind: str) -> None:
    answer = send(edge, EVENT + b"\n\n" + EVENT, Content_Type=kind)
    assert (answer.status, answer.json["accepted"]) == (202, 2)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstd)])
def test_a_body_may_be_packed(edge: Server, coding: str, pack: Callable[[bytes], bytes]) -> None:
    name = "freshet_request_bytes_total"
    before, packed = metric(edge, name), pack(EVENT)
    assert send(edge, packed, Content_Encoding=coding).json["accepted"] == 1
    assert metric(edge, name) == before + len(packed)  # the bytes on the wire
    several = b"".join(pack(EVENT + b"\n") for _ in range(3))
    answer = send(edge, several, Content_Encoding=coding.upper(), **{"Content_Type": NDJSON[0]})
    assert answer.json["accepted"] == 3
    answer = send(edge, pack(b'{"user_id": "u1"}'), "/v1/recommendations", Content_Encoding=coding)
    assert answer.status == 200
    for body, status, code in (
        (pack(bytes(10 << 20)), 413, "too_large"),
        (packed[:-1], 400, "cut_short"),
        (b"", 400, "cut_short"),
        (EVENT * 9, 400, f"malformed_{coding}"),
        (packed + b"\n" * 9, 400, f"malformed_{coding}"),
    ):
        answer = send(edge, body, Content_Encoding=coding)
        assert (answer.status, answer.errors) == (status, [("body", code)])
        assert status == 413 or (answer.json["code"], coding in answer.json["detail"]) == (
            "malformed",
            True,
        )


def test_stacked_codings_and_several_headers_are_refused(edge: Server) -> None:
    connection = edge.connect()
    for headers in ([("Content-Encoding", "gzip")] * 2, [("Content-Type", "application/json")] * 2):
        connection.putrequest("POST", EVENTS)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(EVENT)))
        connection.endheaders(EVENT)
        answer = connection.getresponse()
        assert (answer.status, b"unsupported_media_type" in answer.read()) == (415, True)
    connection.close()


def test_a_byte_order_mark_is_no_error(edge: Server) -> None:
    assert send(edge, codecs.BOM_UTF8 + EVENT).json["accepted"] == 1
    assert send(edge, codecs.BOM_UTF8 + b"[" + EVENT + b"]").json["accepted"] == 1
    lines = codecs.BOM_UTF8 + EVENT + b"\r\n" + EVENT
    assert send(edge, lines, **{"Content_Type": NDJSON[0]}).json["accepted"] == 2
    packed = gzip.compress(codecs.BOM_UTF8 + EVENT)
    assert send(edge, packed, Content_Encoding="gzip").json["accepted"] == 1
    assert edge.ask("PUT", "/v1/items/i1", codecs.BOM_UTF8 + b"{}").status == 202


@pytest.mark.parametrize("kind", ["application/json", NDJSON[0]])
@pytest.mark.parametrize(
    "name", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_other_encodings_are_refused_and_utf_8_is_named(edge: Server, kind: str, name: str) -> None:
    answer = send(edge, EVENT.decode().encode(name), Content_Type=kind)
    assert (answer.status, answer.errors) == (400, [("body", "not_utf8")])
    assert "UTF-8" in answer.json["detail"]


def test_an_array_is_a_batch(edge: Server) -> None:
    before = end_offset(edge.settings, "events")
    answer = send(edge, [VIEW, {**VIEW, "action": "stare"}])
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    assert answer.json["rejected"] == [{"index": 1, "field": "action", "code": "unknown_action"}]
    assert send(edge, [VIEW] * 1000).json["accepted"] == 1000
    assert end_offset(edge.settings, "events") == before + 1001
    assert send(edge, []).errors == [("events", "empty")]
    assert send(edge, [{**VIEW, "rank": -1}]).errors == [("events[0].rank", "out_of_range")]
    answer = send(edge, [VIEW] * 1001)
    assert (answer.status, answer.errors) == (413, [("events", "too_many")])
    answer = send(edge, b" \n[" + b'{"item_id": "a"}, {"titel": 1}]', "/v1/items")
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    assert answer.json["rejected"] == [{"index": 1, "field": "titel", "code": "unknown_field"}]
    assert send(edge, [], "/v1/items").errors == [("items", "empty")]


def test_a_line_that_is_no_utf_8_costs_that_line(edge: Server) -> None:
    body = b"\n".join([EVENT, b'{"user_id": "\xe9"}', b"\0", b"", EVENT + b"\r" + EVENT, EVENT])
    answer = edge.ask("POST", EVENTS, body, LINES)
    assert (answer.status, answer.json["accepted"]) == (202, 2)
    rejected = [(it["index"], it["field"], it["code"]) for it in answer.json["rejected"]]
    assert rejected == [
        (1, "body", "not_utf8"),
        (2, "body", "malformed_json"),
        (3, "body", "malformed_json"),
    ]
    for start in (b"\xff\xfe", b"\xfe\xff", b"{\0}\0", b"\0a\0b"):
        for end in (b"", b" "):
            answer = edge.ask("POST", EVENTS, start + b"\n" + EVENT + b"\n" + end, LINES)
            assert (answer.status, answer.json["accepted"]) == (202, 1)
    wide = b"\n".join([EVENT, EVENT]).decode()
    for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"):
        answer = edge.ask("POST", EVENTS, wide.encode(coding), LINES)
        assert (answer.status, answer.errors) == (400, [("body", "not_utf8")])
    answer = send(edge, b'{"events": [%s, {"user_id": "\xe9"}]}' % EVENT)
    assert (answer.status, answer.errors) == (400, [("body", "not_utf8")])


def test_parameters_are_said_once_and_not_by_an_empty_text(edge: Server) -> None:
    for path in (f"{EVENTS}?mode=", "/v1/recommendations?"):
        assert send(edge, VIEW if "events" in path else {"user_id": "u1"}, path).status < 300
    for path in (f"{EVENTS}?mode=live&mode=live", f"{EVENTS}?mode=live&mode=import"):
        assert send(edge, VIEW, path).errors == [("mode", "repeated")]
    for query in ("category=&cursor=&window=", "count=&now="):
        assert edge.ask("GET", f"/v1/popular?{query}").status == 200
    assert edge.ask("GET", "/v1/items/i1/similar?exclude=&exclude=a&count=").status == 200
    metrics = "/v1/experiments/none/metrics"
    assert edge.ask("GET", f"{metrics}?version=&metric=").status == 404
    assert edge.ask("GET", "/v1/status?x=").errors == [("x", "unknown_field")]


def test_a_refusal_of_a_name_says_which_there_are(edge: Server) -> None:
    read, secret = "/v1/recommendations", "sw0rdfish"
    named = "placement takes one of home, popular, replay"
    for answer, start in (
        (edge.ask("GET", f"{read}?user_id=u&placement={secret}"), named),
        (edge.ask("GET", f"{read}?user_id=u&filter={secret}"), "The placement has no filter."),
        (send(edge, {"user_id": "u", "requests": [{"placement": secret}]}, read), named),
        (send(edge, {"user_id": "u", "filter": secret}, read), "The placement has no filter."),
    ):
        assert answer.status == 422
        assert answer.json["detail"].startswith(start)
        assert secret not in answer.body.decode()


def test_a_refusal_says_what_is_taken_and_not_what_was_sent(edge: Server) -> None:
    secret = "sw0rdfish"
    for body, detail in (
        ({**VIEW, secret[:4] + "ish": 1}, "The body has the fields item_id, action, user_id,"),
        ([{**VIEW, "action": secret}, {}], "events[0].action takes one of view, click,"),
        ({**VIEW, "occurred_at": secret}, "occurred_at takes a time of RFC 3339"),
        ({"item_id": "i", "action": "view"}, "user_id is required and takes a text"),
    ):
        answer = send(edge, body)
        assert answer.status == 422
        assert answer.json["detail"].startswith(f"Nothing was accepted. {detail}") or answer.json[
            "detail"
        ].startswith(detail)
        assert secret not in answer.body.decode()
    recipe = {"expected_version": 0, "recipe": {"weights": {secret: 1}}}
    answer = edge.ask("PUT", "/v1/placements/home", recipe)
    assert answer.errors == [("recipe.weights", "unknown_source")]
    assert "popular" in answer.json["detail"]
    for path, detail in (
        ("/v1/recommendations?user_id=u&colour=1", "The query takes user_id, anonymous_id, count,"),
        ("/v1/popular?count=0", "count takes a whole number from 1 to 100."),
        ("/v1/status?colour=1", "The query takes no parameters."),
        (f"/v1/items/{'x' * 300}", "item_id takes a text of 1 to 256 bytes of UTF-8."),
    ):
        assert edge.ask("GET", path).json["detail"].startswith(detail)
