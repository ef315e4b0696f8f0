"""Requests of `POST /v1/events`, and some that are none: which are answered directly, and which are not."""

from __future__ import annotations

import codecs
import gzip
import json
import random
from typing import Any

VIEW: dict[str, Any] = {"user_id": "u1", "item_id": "i1", "action": "view"}
NAMED = VIEW | {"event_id": "e1"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LINES = "application/x-ndjson"


def request(
    content: Any = NAMED,
    line: str = "POST /v1/events HTTP/1.1",
    headers: tuple[str, ...] = (),
    **named: str | None,
) -> bytes:
    """A request. `headers`: more lines. `named`: others in the place of the usual ones, None for none."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    given: dict[str, str | None] = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "X-Request-Id": "r1",
        "Content-Length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in named.items()},
    }
    lines = [line, *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def batch(*events: Any, **fields: Any) -> dict[str, Any]:
    return {"events": list(events), **fields}


def lines(*events: Any) -> bytes:
    return b"\n".join(it if isinstance(it, bytes) else json.dumps(it).encode() for it in events)


EACH = [{"user_id": f"u{n}", "item_id": f"i{n % 3}", "action": "view"} for n in range(40)]
LARGE = VIEW | {"context": {f"k{n}": random.Random(n).randbytes(125).hex() for n in range(30)}}
TAKEN: dict[str, bytes] = {
    "one event": request(),
    "without an id": request(VIEW),
    "every field": request(
        NAMED
        | {
            "session_id": "s1",
            "slate_id": "01JABCDEF",
            "rank": 3,
            "occurred_at": "2026-05-28T20:26:39.123Z",
            "dwell_ms": 12.6,
            "context": {"a": 1, "b": "é", "c": None},
        }
    ),
    "a rating": request(VIEW | {"action": "rate", "value": 1, "scale": {"min": 0, "max": 5}}),
    "a purchase": request(
        VIEW | {"action": "purchase", "value": -3.5, "currency": "EUR", "quantity": 2}
    ),
    "a clock ahead": request(VIEW | {"occurred_at": "2027-05-28T20:26:39Z"}),
    "an unknown item": request(VIEW | {"item_id": "i9"}),
    "a visitor": request({"anonymous_id": "a1", "item_id": "i1", "action": "click"}),
    "a batch": request(batch(*EACH)),
    "a batch of one": request(batch(NAMED)),
    "a batch with its time": request(
        batch(VIEW | {"occurred_at": "2026-05-28T20:00:00Z"}, sent_at="2026-05-28T20:00:01.5+01:00")
    ),
    "an array": request([NAMED, VIEW | {"item_id": "i2"}]),
    "lines": request(lines(*EACH[:5], b" ", NAMED), Content_Type=LINES),
    "one line": request(lines(NAMED), Content_Type="application/jsonl"),
    "a type with its charset": request(Content_Type="application/json;charset=UTF-8"),
    "blanks around": request(b" \n" + json.dumps(NAMED).encode() + b"\r\n "),
    "ignored fields that are null": request(VIEW | {"propensity": None}),
    "no batch": request(VIEW | {"user_id": "é\u0301"}),
    "a trace": request(traceparent=TRACE, tracestate="a=b"),
    "a trace that is none": request(traceparent="00-1-2-3"),
    "a browser": request(
        Origin="http://localhost", Sec_Fetch_Site="same-origin", Referer="https://shop.example/"
    ),
    "a client": request(User_Agent="python-requests/2.31.0", Accept="*/*", Accept_Encoding="gzip"),
    "a client in latin-1": request(User_Agent="é/1"),
    "a connection that is kept": request(Connection="Keep-Alive"),
    "a credential that is not asked for": request(Authorization="Bearer x"),
    "a length with zeros": request(Content_Length=f"00{len(json.dumps(NAMED))}"),
    "a head in capitals": request(
        Content_Type=None,
        X_Request_Id=None,
        headers=("CONTENT-TYPE: application/json", "x-REQUEST-id: R.2"),
    ),
    "a large body": request(batch(*[LARGE] * 7)),
}
"""What is answered directly."""
UNUSUAL: dict[str, bytes] = {
    "no type": request(Content_Type=None),
    "an empty type": request(Content_Type=""),
    "another target": request(line="POST /v1/items HTTP/1.1"),
    "a slash more": request(line="POST /v1/events/ HTTP/1.1"),
    "encoded": request(line="POST /v1/%65vents HTTP/1.1"),
    "absolute": request(line="POST http://x/v1/events HTTP/1.1"),
    "a mode": request(line="POST /v1/events?mode=live HTTP/1.1"),
    "history": request(
        VIEW | {"occurred_at": "2020-01-01T00:00:00Z"}, line="POST /v1/events?mode=import HTTP/1.1"
    ),
    "an unknown mode": request(line="POST /v1/events?mode=x HTTP/1.1"),
    "an unknown parameter": request(line="POST /v1/events?a=1 HTTP/1.1"),
    "an empty query": request(line="POST /v1/events? HTTP/1.1"),
    "HEAD": request(b"", line="HEAD /v1/events HTTP/1.1", Content_Type=None),
    "OPTIONS": request(b"", line="OPTIONS /v1/events HTTP/1.1"),
    "PUT": request(line="PUT /v1/events HTTP/1.1"),
    "GET": request(b"", line="GET /v1/events HTTP/1.1", Content_Length=None),
    "HTTP/1.0": request(line="POST /v1/events HTTP/1.0"),
    "HTTP/1.0 that is kept": request(line="POST /v1/events HTTP/1.0", Connection="keep-alive"),
    "the last of its connection": request(Connection="close"),
    "two words of a connection": request(Connection="keep-alive, close"),
    "an upgrade": request(Connection="Upgrade", Upgrade="h2c"),
    "an unknown header": request(X_Else="1"),
    "an idempotency key": request(VIEW, Idempotency_Key="k1"),
    "an idempotency key of another body": request(NAMED | {"event_id": "e2"}, Idempotency_Key="k1"),
    "an empty idempotency key": request(VIEW, Idempotency_Key=""),
    "a coding": request(gzip.compress(json.dumps(NAMED).encode()), Content_Encoding="gzip"),
    "an unknown coding": request(Content_Encoding="rot13"),
    "the coding that is none": request(Content_Encoding="identity"),
    "chunks": request(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(NAMED)), json.dumps(NAMED).encode()),
        Content_Length=None,
        Transfer_Encoding="chunked",
    ),
    "a length and chunks": request(b"0\r\n\r\n", Transfer_Encoding="chunked"),
    "two lengths": request(headers=("Content-Length: 3",)),
    "a negative length": request(Content_Length="-1"),
    "no number for a length": request(Content_Length="1e3"),
    "a length in 13 digits": request(Content_Length="1" * 13),
    "no length": request(b"", Content_Length=None),
    "a wait for 100": request(Expect="100-continue"),
    "another expectation": request(Expect="200-ok"),
    "a type twice": request(headers=("Content-Type: application/json",)),
    "two ids of a request": request(headers=("X-Request-Id: r2",)),
    "two traces": request(traceparent=TRACE, headers=(f"traceparent: {TRACE}",)),
    "two hosts": request(headers=("Host: y",)),
    "another type": request(Content_Type="text/plain"),
    "another charset": request(Content_Type="application/json; charset=latin-1"),
    "a type as few write it": request(Content_Type="Application/JSON; Charset=utf8"),
    "another site": request(Sec_Fetch_Site="cross-site"),
    "no body": request(b""),
    "blanks": request(b"  \n"),
    "no JSON": request(b"{"),
    "JSON and more": request(json.dumps(NAMED).encode() + b"x"),
    "a text": request(b'"x"'),
    "null": request(b"null"),
    "a field twice": request(b'{"user_id":"u0","user_id":"u1","item_id":"i1","action":"view"}'),
    "no UTF-8": request(b'{"user_id":"\xff","item_id":"i1","action":"view"}'),
    "no UTF-8 in what is skipped": request(b'{"x":"\xff","item_id":"i1","action":"view"}'),
    "half a surrogate": request(b'{"user_id":"\\ud800","item_id":"i1","action":"view"}'),
    "a byte order mark": request(codecs.BOM_UTF8 + json.dumps(NAMED).encode()),
    "UTF-16": request(json.dumps(NAMED).encode("utf-16-le")),
    "zeros": request(b"\0\0\0\0"),
    "too deep": request(b'{"context":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "an unknown field": request(NAMED | {"x": 1}),
    "an unknown field of a batch": request(batch(NAMED, x=1)),
    "an event and a batch": request(NAMED | {"events": [NAMED]}),
    "an event and no batch": request(NAMED | {"events": None}),
    "an empty batch": request(batch()),
    "no batch but null": request({"events": None}),
    "an empty array": request([]),
    "no lines": request(b"\n\n", Content_Type=LINES),
    "too many": request(batch(*[{}] * 1001)),
    "too many lines": request(b"{}\n" * 1001, Content_Type=LINES),
    "too large": request(b"[" + b" " * (1 << 20)),
    "1 MiB": request(b" " * ((1 << 20) - len(json.dumps(NAMED))) + json.dumps(NAMED).encode()),
    "more than is gathered": request(batch(*[LARGE] * 30)),
    "a wrong type in a batch": request(batch(NAMED, {"item_id": 1})),
    "all wrong in a batch": request(batch({"item_id": 1}, {"a": 1})),
    "a wrong line": request(lines(NAMED, b"{", b"\xff", VIEW), Content_Type=LINES),
    "a time that is none": request(VIEW | {"occurred_at": "yesterday"}),
    "a time out of range": request(VIEW | {"occurred_at": "1960-01-01T00:00:00Z"}),
    "a batch with a time that is none": request(batch(NAMED, sent_at="x")),
    "no person": request({"item_id": "i1", "action": "view"}),
    "a person that is none": request(VIEW | {"user_id": "undefined"}),
    "no item": request({"user_id": "u1", "action": "view"}),
    "an item that is none": request(VIEW | {"item_id": " "}),
    "no action": request({"user_id": "u1", "item_id": "i1"}),
    "an unknown action": request(VIEW | {"action": "sneeze"}),
    "the server's action": request(VIEW | {"action": "served"}),
    "an id that is too long": request(VIEW | {"user_id": "x" * 257}),
    "an id with a control": request(VIEW | {"event_id": "a\0b"}),
    "a rank out of range": request(VIEW | {"rank": -1}),
    "a context that is too large": request(VIEW | {"context": {str(n): n for n in range(33)}}),
    "a rating without its scale's order": request(
        VIEW | {"action": "rate", "value": 1, "scale": {"min": 5, "max": 0}}
    ),
    "an unknown currency": request(VIEW | {"action": "purchase", "value": 1, "currency": "XXX9"}),
    "a record that is too large": request(
        VIEW | {"context": {f"{n:é>256}": "é" * 256 for n in range(32)}}
    ),
    "ignored fields": request(VIEW | {"propensity": 0.1, "variant": "a"}),
    "two that are one": request(batch(NAMED, NAMED, VIEW)),
    "no request": b"FETCH /v1/events HTTP/1.1\r\n\r\n",
    "a header with a space": request(headers=("X Y: 1",)),
    "a line folded": request(headers=("Accept: a,", " b")),
}
"""What only looks plain, or not even that."""
