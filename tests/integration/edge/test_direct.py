"""A request that is answered directly, in the protocol, gets what the usual way gives it, byte by byte; and
so does one that only looks plain. The same requests go to two servers, whose clocks and ids are given."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.topics import EVENTS
from serving.http.direct import MAX_DIRECT_BODY_BYTES
from serving.http.head import Head
from serving.http.remembered import MAX_HEAD_BYTES, MAX_HEADS, RememberedHeads
from tests.support.outage import Broker
from tests.support.plain_requests import LARGE, NAMED, TAKEN, UNUSUAL, VIEW, request
from tests.support.two_ways import (
    BYTEWISE,
    GUARDED,
    HASTY,
    LISTED,
    PLAIN,
    TOKEN,
    Way,
    read_all,
    two_ways,
)
from tests.support.waits import until

Pair = tuple[Way, Way]


@pytest.fixture(scope="module")
def ways(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("ways")
    with two_ways(Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home)) as pair:
        yield pair


RANDOM_ID = re.compile(rb"\b[0-9a-f]{16}\b|ratelimit: [^\r]+")
"""And what remains of the limit that both servers take of."""


def same(ways: Pair, sent: bytes, taken: int, how: str = PLAIN) -> bytes:
    """The answer of both servers to what is sent, which the one answers directly `taken` times."""
    direct, usual = ways
    before = direct.taken
    answer, wanted = direct.send(sent, how), usual.send(sent, how)
    # the id of a request that sends none, or no valid one, is random
    assert RANDOM_ID.sub(b"", answer) == RANDOM_ID.sub(b"", wanted)
    assert direct.taken - before == taken
    assert direct.counts() == usual.counts()
    return answer


@pytest.mark.parametrize("sent", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_plain_is_answered_directly_as_it_always_was(ways: Pair, sent: bytes) -> None:
    for how in (PLAIN, BYTEWISE):
        assert same(ways, sent, 1, how).startswith(b"HTTP/1.1 202 Accepted\r\n")


@pytest.mark.parametrize("sent", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_what_is_unusual_goes_the_usual_way(ways: Pair, sent: bytes) -> None:
    assert same(ways, sent, 0)
    if len(sent) < MAX_DIRECT_BODY_BYTES:
        same(ways, sent, 0, BYTEWISE)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("shop.example", 202),
        ("SHOP.example.:8080", 202),
        ("api.example:8080", 202),
        ("[::1]:1", 202),
        ("api.example", 421),
        ("api.example:80", 421),
        ("evil.example", 421),
        ("shop.example.evil.example", 421),
        ("127.0.0.1", 421),
        ("::1", 400),
        ("shop.example@evil.example", 400),
    ],
)
def test_only_a_host_that_is_listed_is_answered_to(ways: Pair, host: str, status: int) -> None:
    taken = status == 202
    sent = request(VIEW, Host=host, X_Request_Id=None)
    answer = same(ways, sent * (1 + taken), 2 * taken, LISTED)  # the second head is remembered
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert taken or (b"FRESHET_HOSTS" in answer) == (status == 421)


def test_an_absolute_target_names_a_host_too(ways: Pair) -> None:
    for host, status in (("shop.example", 202), ("evil.example", 421)):
        sent = request(line=f"POST http://{host}/v1/events HTTP/1.1", Host="shop.example")
        assert same(ways, sent, 0, LISTED).startswith(b"HTTP/1.1 %d " % status)
    old = request(b"", "GET /health/live HTTP/1.0", Host=None, Content_Length=None)
    assert same(ways, old, 0, LISTED).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "credential",
    [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"],
)
def test_without_its_token_a_request_is_refused(ways: Pair, credential: str | None) -> None:
    answer = same(ways, request(Authorization=credential), 0, GUARDED)
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_with_its_token_a_request_is_answered_directly(ways: Pair, scheme: str) -> None:
    sent = request(Authorization=f"{scheme} {TOKEN}", Sec_Fetch_Site="cross-site")
    assert same(ways, sent, 1, GUARDED).startswith(b"HTTP/1.1 202 ")


def test_a_refusal_does_not_wait_for_the_body(ways: Pair) -> None:
    """Whoever has no token has no body gathered, and one of another type neither."""
    for sent, how in (
        (request(Authorization="Bearer no"), GUARDED),
        (request(Content_Type="text/plain"), PLAIN),
    ):
        answers = set()
        for way in ways:
            with way.connect(how) as connection:
                connection.sendall(sent[:-1])
                answers.add(connection.recv(1 << 16))
        assert len(answers) == 1


NAMELESS = request(X_Request_Id=None)
OTHERS = {
    "the same": NAMELESS,
    "no JSON": NAMELESS[:-1] + b"]",
    "two": NAMELESS * 2,
    "a read behind it": NAMELESS + request(b"", "GET /v1/events HTTP/1.1", Content_Length=None),
    "what is no request behind it": NAMELESS + b"POST\r\n\r\n",
    "an answer that the client waits for": request(X_Request_Id=None, Expect="100-continue"),
    "another coding": request(X_Request_Id=None, Content_Encoding="br"),
    "its start alone": NAMELESS[:-5],
    "empty lines before each": (b"\r\n" * 400 + NAMELESS) * 3,
}


@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS.keys())
def test_a_head_that_came_before_says_the_same_again(ways: Pair, sent: bytes) -> None:
    """Its bytes are not parsed again, on any connection; a body that is declined goes the usual way."""
    head = NAMELESS[: NAMELESS.index(b"\r\n\r\n") + 4]
    same(ways, NAMELESS, 1)
    known = ways[0].remembered[PLAIN].get(head)
    assert known is not None
    assert known.length == len(NAMELESS) - len(head)
    for how in (PLAIN, BYTEWISE):
        before = ways[0].taken
        answers = [way.send(NAMELESS + sent, how) for way in ways]
        assert len({RANDOM_ID.sub(b"", it) for it in answers}) == 1
        assert ways[0].taken - before >= 1
    until(lambda: ways[0].counts() == ways[1].counts())
    assert ways[0].remembered[PLAIN].get(head) == known


def test_a_token_is_asked_for_with_each_head_that_came_before(ways: Pair) -> None:
    sent = request(X_Request_Id=None, Authorization="Bearer wrong")
    assert same(ways, sent, 1).startswith(b"HTTP/1.1 202 ")
    assert same(ways, sent, 0, GUARDED).startswith(b"HTTP/1.1 401 ")


def test_few_heads_are_kept_and_none_of_one_person() -> None:
    heads, length = RememberedHeads(), {b"content-length": b"3"}
    of_one, long = written(b"of one"), written(bytes(MAX_HEAD_BYTES))
    for number in range(MAX_HEADS + 1):
        heads.keep(written(b"%d" % number), Head(b"POST", b"/", length))
    heads.keep(of_one, Head(b"POST", b"/", length | {b"x-forwarded-for": b"192.0.2.1"}))
    heads.keep(long, Head(b"POST", b"/", length))
    kept = [heads.get(it) is not None for it in (written(b"0"), written(b"1"), of_one, long)]
    assert kept == [False, True, False, False]


def written(field: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    return line + b"\r\nx: " + field + b"\r\n\r\n"


def test_fields_that_are_kept_say_the_same_behind_another_line() -> None:
    heads = RememberedHeads()
    heads.keep(written(b"a"), Head(b"POST", b"/", {b"content-length": b"3"}))
    heads.keep(written(b"b", b"GET /a HTTP/1.1"), Head(b"GET", b"/a", {b"x": b"b"}))
    known = heads.get(written(b"b", b"GET /c?d=%20 HTTP/1.1"))
    assert known == (Head(b"GET", b"/c?d=%20", {b"x": b"b"}), 0)
    known = heads.get(written(b"a", b"POST /c HTTP/1.1"))
    assert known == (Head(b"POST", b"/c", {b"content-length": b"3"}), 3)
    for line in (
        b"GET / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"GET /# HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"HEAD / HTTP/1.1",
        b"GET http://x/ HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"POST / HTTP/1.1",  # without a length
    ):
        assert heads.get(written(b"b", line)) is None
    assert heads.get(written(b"a", b"GET / HTTP/1.1")) is None, "with one"


def test_an_id_of_a_request_that_is_not_valid_is_made_anew(ways: Pair) -> None:
    for given in (None, "", "a b", "x" * 65, "é"):
        answer = same(ways, request(X_Request_Id=given), 1)
        assert re.search(rb"\r\nx-request-id: [0-9a-f]{16}\r\n", answer)


def test_pipelined_requests_are_answered_in_their_order(ways: Pair) -> None:
    """Directly and the usual way in one connection: a request waits for the answer before it."""
    good, bad = (request(NAMED, X_Request_Id=f"g{n}") for n in range(3)), request(b"{")
    read = request(b"", "GET /v1/events HTTP/1.1", Content_Length=None, X_Request_Id="read")
    first, second, third = good
    answer = same(ways, b"".join([first, read, bad, second, read, third]), 3)
    ids = re.findall(rb"x-request-id: (\w+)", answer)
    assert ids == [b"g0", b"read", b"r1", b"g1", b"read", b"g2", b"last"]
    assert same(ways, read + first, 1).count(b"HTTP/1.1 ") == 3
    assert same(ways, bad + first, 1).count(b"HTTP/1.1 ") == 3


def test_a_connection_that_is_kept_is_answered_directly_again_and_again(ways: Pair) -> None:
    direct, usual = ways
    before = direct.taken, direct.state.total_requests
    sent = [request(NAMED | {"event_id": f"k{n}"}, X_Request_Id=f"k{n}") for n in range(5)]
    sent.insert(3, request(b"{"))
    answers = []
    for way in ways:
        with way.connect() as connection:
            got = []
            for each in sent:
                connection.sendall(each)
                got.append(answered(connection))
            answers.append(got)
            kept = [getattr(it, "cycle", None) for it in way.state.connections]
            assert not any(getattr(it, "chunks", None) for it in kept), "no body is kept"
    assert answers[0] == answers[1]
    assert direct.taken - before[0] == 5
    assert direct.state.total_requests - before[1] == 6
    assert direct.counts() == usual.counts()


def answered(connection: socket.socket) -> bytes:
    """One answer."""
    got = b""
    while not (found := re.search(rb"content-length: (\d+)\r\n(?:.*\r\n)*\r\n", got)):
        got += connection.recv(1 << 16)
    while len(got) < found.end() + int(found[1]):
        got += connection.recv(1 << 16)
    return got


def test_a_request_that_is_cut_short_is_counted_alike(ways: Pair) -> None:
    direct, usual = ways
    before = direct.counts()
    for way in ways:
        connection = way.connect()
        connection.sendall(request()[:-5])
        connection.close()
    name = ("freshet_requests_total", "/v1/events", "400")
    until(lambda: direct.counts().get(name, 0) > before.get(name, 0))
    until(lambda: direct.counts() == usual.counts())


def test_a_body_that_is_too_slow_is_refused_and_counted_alike(ways: Pair) -> None:
    answers = set()
    for way in ways:
        with way.connect(HASTY) as connection:
            connection.sendall(request()[:-1])
            answers.add(RANDOM_ID.sub(b"", read_all(connection)))
    [answer] = answers
    assert answer.startswith(b"HTTP/1.1 408 ")
    until(lambda: ways[0].counts() == ways[1].counts())


def test_a_client_that_goes_before_its_answer_has_its_events_in_the_log(ways: Pair) -> None:
    direct, usual = ways
    name = ("freshet_events_accepted_total",)
    before = direct.counts()[name]
    for way in ways:
        with closing(way.connect()) as connection:
            connection.sendall(request())
    until(lambda: direct.counts()[name] == before + 1)
    until(lambda: direct.counts() == usual.counts())
    same(ways, request(), 1)


def test_the_log_of_both_is_the_same(ways: Pair) -> None:
    """What the tests above sent, headers included."""
    direct, usual = (way.records() for way in ways)
    assert direct == usual
    assert len({it[-1] for it in map(hashable, direct)}) == 2, "with a trace and without"


def hashable(record: Any) -> Any:
    return (*record[:-1], tuple(record[-1]))


def test_what_the_broker_refuses_is_the_same_problem(ways: Pair) -> None:
    settings = [way.serving.settings for way in ways]
    limit(settings, 4_000)
    try:
        answer = same(ways, request(LARGE), 1)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"record_too_large"' in answer
    finally:
        limit(settings, 1 << 20)


@pytest.mark.check
def test_while_the_broker_is_away_both_spool(own: Settings, broker_of_my_own: Broker) -> None:
    with two_ways(own) as ways:
        same(ways, request(), 1)
        broker_of_my_own.kill()
        for number in range(3):
            sent = request(VIEW | {"event_id": f"away{number}"})
            answer, wanted = (way.send(sent) for way in ways)
            assert answer == wanted
            assert b'"positions":[],"durable":"spool"' in answer
        taken = ways[0].taken
        assert taken <= 2, "one may have been in flight"
        broker_of_my_own.start()
        # the first ones may wait behind what the spool has
        until(lambda: bool(ways[0].send(request(VIEW))) and ways[0].taken > taken)
        until(lambda: not any(way.serving.writes.waiting for way in ways))
        for way in ways:
            ids = [json.loads(value)["event_id"] for _, _, _, value, _ in way.records()]
            assert [it for it in ids if it.startswith("away")] == ["away0", "away1", "away2"]


def has_request(way: Way) -> bool:
    return any(getattr(it, "cycle", None) for it in way.state.connections)


@pytest.mark.check
def test_a_server_that_stops_answers_first(own: Settings, broker_of_my_own: Broker) -> None:
    """A pending answer says that it is the last one of its connection, and idle connections are closed."""
    with two_ways(own) as ways:
        broker_of_my_own.process.send_signal(signal.SIGSTOP)
        pending = [way.connect() for way in ways]
        for way, connection in zip(ways, pending, strict=True):
            connection.sendall(request())
            until(partial(has_request, way))
            way.stop()
        broker_of_my_own.process.send_signal(signal.SIGCONT)
        for connection in pending:
            with connection:
                head, _, body = read_all(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202 ")
            assert head.endswith(b"\r\nx-request-id: r1\r\nconnection: close")
            assert body.startswith(b'{"accepted":1,')
        assert ways[0].taken == 1


def limit(each: list[Settings], size: int) -> None:
    """Sets the most bytes of a batch in the topic `events`."""
    for settings in each:
        client, name = kafka_client.admin(settings), broker_name(settings, EVENTS.name)
        resource = ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(size)})
        client.alter_configs([resource])
        client.close()
