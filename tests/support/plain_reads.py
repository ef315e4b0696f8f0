"""Reads of the plain kind, and some that only look so: which are answered directly, and which are not."""

from __future__ import annotations

from tests.support.plain_requests import TRACE, request

READ = "/v1/recommendations?user_id=u1"


def read(target: str = READ, method: str = "GET", **named: str | None) -> bytes:
    """A read. `named`: headers in the place of the usual ones, None for none."""
    given = {"Content_Type": None, "Content_Length": None, **named}
    return request(b"", f"{method} {target} HTTP/1.1", (), **given)


TAKEN: dict[str, bytes] = {
    "a person": read(),
    "a visitor": read("/v1/recommendations?anonymous_id=a1"),
    "every parameter": read(
        READ
        + "&count=3&placement=home&session_id=s1&item_id=i1&category=drama&exclude=i2&exclude=i3"
        + "&max_wait_ms=10&explain=reason&personalized=false"
    ),
    "encoded": read("/v1/recommendations?user_id=%C3%A9%20x&session_id=a+b"),
    "without reasons": read(READ + "&explain=none"),
    "nothing said": read(READ + "&session_id=&&"),
    "another order": read("/v1/recommendations?count=100&user_id=u2"),
    "a popular placement": read(READ + "&placement=popular"),
    "a replay": read(READ + "&placement=replay"),
    "an unknown filter": read(READ + "&filter=new"),
    "popular": read("/v1/popular"),
    "popular with its parameters": read("/v1/popular?category=drama&window=1h&count=2"),
    "popular with an empty query": read("/v1/popular?"),
    "similar": read("/v1/items/i1/similar"),
    "similar with its parameters": read("/v1/items/i1/similar?count=2&exclude=i4"),
    "similar to what is not there": read("/v1/items/no-such.item~1/similar"),
    "similar to a word for nothing": read("/v1/items/undefined/similar"),
    "a trace": read(traceparent=TRACE, tracestate="a=b"),
    "a trace that is none": read(traceparent="00-1-2-3"),
    "a browser": read(Origin="http://localhost", Sec_Fetch_Site="same-origin", Cookie="a=b"),
    "a client": read(User_Agent="python-requests/2.31.0", Accept="*/*", Accept_Encoding="gzip"),
    "a type of no body": read(Content_Type="application/json"),
    "a connection that is kept": read(Connection="Keep-Alive"),
    "without an id of the request": read(X_Request_Id=None),
    "an id of a request that is none": read(X_Request_Id="a b"),
}
"""What is answered directly."""
UNUSUAL: dict[str, bytes] = {
    "an unknown placement": read(READ + "&placement=nowhere"),
    "a person that is none": read("/v1/recommendations?user_id=undefined"),
    "similar to an id of 300 characters": read(f"/v1/items/{'x' * 300}/similar"),
    "every detail": read(READ + "&explain=full"),
    "a position": read(READ + "&after=0:5&max_wait_ms=0"),
    "a time": read(READ + "&now=2026-05-28T20:26:39.123Z"),
    "HEAD": read(method="HEAD"),
    "OPTIONS": read(method="OPTIONS"),
    "PUT": read(method="PUT"),
    "HEAD of popular": read("/v1/popular", method="HEAD"),
    "a slash more": read("/v1/recommendations/?user_id=u1"),
    "an encoded path": read("/v1/%72ecommendations?user_id=u1"),
    "absolute": read("http://x" + READ),
    "a fragment": read(READ + "#x"),
    "another path": read("/v1/items/i1"),
    "an encoded id": read("/v1/items/i%31/similar"),
    "an id with a slash": read("/v1/items/a/b/similar"),
    "an id with an encoded slash": read("/v1/items/a%2Fb/similar"),
    "no person": read("/v1/recommendations"),
    "two people": read(READ + "&anonymous_id=a1"),
    "an empty person": read("/v1/recommendations?user_id="),
    "a person twice": read(READ + "&user_id=u2"),
    "an unknown parameter": read(READ + "&x=1"),
    "a number that is none": read(READ + "&count=ten"),
    "a number out of range": read(READ + "&count=101"),
    "a cursor that is none": read(READ + "&cursor=x"),
    "an unknown window": read("/v1/popular?window=1y"),
    "a parameter of another read": read("/v1/items/i1/similar?window=1h"),
    "no UTF-8": read("/v1/recommendations?user_id=%FF"),
    "a query that is too long": read(READ + "&exclude=" + "x" * 33_000),
    "HTTP/1.0": b"GET /v1/popular HTTP/1.0\r\nHost: localhost\r\nX-Request-Id: r1\r\n\r\n",
    "the last of its connection": read(Connection="close"),
    "an unknown header": read(X_Else="1"),
    "two ids of a request": read()[:-2] + b"X-Request-Id: r2\r\n\r\n",
    "an empty body": read(Content_Length="0"),
    "a body": request(b"{}", f"GET {READ} HTTP/1.1"),
    "chunks": read(Transfer_Encoding="chunked") + b"0\r\n\r\n",
    "a wait for 100": read(Expect="100-continue"),
    "another site": read(Sec_Fetch_Site="cross-site"),
}
"""What only looks plain, or not even that."""
