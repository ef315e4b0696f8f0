"""A read that is answered directly, in the protocol, gets what the usual way gives it, byte by byte; and so
does one that only looks plain. The same reads go to two servers, whose clocks and chance are given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import msgspec
import pytest

from infra.settings import Settings
from schemas.control import Experiment, Held, Variant
from schemas.items import Item
from schemas.topics import EVENTS, SLATES
from serving.health import is_loading
from serving.state.queue import ReadQueue
from tests.support.plain_reads import READ, TAKEN, UNUSUAL, read
from tests.support.plain_requests import TRACE, request
from tests.support.two_ways import BYTEWISE, GUARDED, NOW, PLAIN, TOKEN, Way, two_ways
from tests.support.waits import until

Pair = tuple[Way, Way]
VARYING = re.compile(
    rb"\b[0-9a-f]{16}\b|\"positions\":\[.*?\]|content-length: \d+\r\n|ratelimit: [^\r]+"
)
"""The id of a request that sends none, or no valid one, is random; served records come to the log in batches,
so an action has this or that place behind them; both ways take of one limit."""
EXPERIMENT = Experiment(
    placement="home",
    salt="s",
    variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5, placement="popular")),
)


@pytest.fixture(scope="module")
def ways(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("ways")
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home, frames="off")
    with two_ways(settings) as pair:
        for way in pair:
            until(partial(_is_loaded, way))  # else a follower would come in between
            way.run(partial(_fill, way))
        yield pair


def _is_loaded(way: Way) -> bool:
    return not is_loading(way.serving)


def _fill(way: Way) -> None:
    for n in range(30):
        category = ("drama", "comedy", "é\u2028")[n % 3]
        item = Item(
            item_id=f"i{n}",
            title=f'Film "{n}" é',
            category=category,
            categories=(category,),
            published_at=NOW - n * 86_400_000,
            group_id="g" if n in (4, 5) else "",
        )
        way.serving.catalogue.put(item)
    way.serving.index.refresh()
    held = Held(version=3, body=msgspec.json.encode(EXPERIMENT).decode(), offset=1)
    way.serving.control.put("experiment:x", msgspec.json.encode(held))


def same(ways: Pair, sent: bytes, taken: int, how: str = PLAIN) -> bytes:
    """The answer of both servers to what is sent, which the one answers directly `taken` times."""
    direct, usual = ways
    before = direct.taken
    answer, wanted = direct.send(sent, how), usual.send(sent, how)
    assert VARYING.sub(b"", answer) == VARYING.sub(b"", wanted)
    assert direct.taken - before == taken
    assert direct.counts() == usual.counts()
    return answer


@pytest.mark.parametrize("sent", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_plain_is_answered_directly_as_it_always_was(ways: Pair, sent: bytes) -> None:
    for how in (PLAIN, BYTEWISE):
        answer = same(ways, sent, 1, how)
        assert answer.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 422 "))


@pytest.mark.parametrize("sent", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_what_is_unusual_goes_the_usual_way(ways: Pair, sent: bytes) -> None:
    assert same(ways, sent, 0)
    if len(sent) < 30_000:
        same(ways, sent, 0, BYTEWISE)


def test_a_read_says_its_experiment_its_slate_and_its_times(ways: Pair) -> None:
    heads = [
        same(ways, read(f"/v1/recommendations?user_id=v{n}"), 1).partition(b"\r\n\r\n")[0]
        for n in range(8)
    ]
    said = [re.search(rb"\r\nx-experiments: x=(a|b);v=3\r\n", head) for head in heads]
    assert {it[1] for it in said if it} == {b"a", b"b"}
    for head in heads:
        assert re.search(rb"\r\nx-slate-id: \w{26}\r\nserver-timing: read;dur=0.000, ", head)


@pytest.mark.parametrize(
    ("credential", "status"),
    [(None, 401), ("Bearer wrong", 401), (f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200)],
)
def test_a_read_needs_its_token(ways: Pair, credential: str | None, status: int) -> None:
    answer = same(ways, read(Authorization=credential), int(status == 200), GUARDED)
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_the_pages_of_a_list_are_the_same(ways: Pair) -> None:
    cursor, shown = "", []
    for _ in range(3):
        answer = same(ways, read(f"{READ}&count=10{cursor}"), 1)
        body = answer.partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0]
        page = msgspec.json.decode(body)
        shown += [item["item_id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert len(set(shown)) == len(shown) > 20


def test_reads_and_writes_of_a_connection_are_answered_in_their_order(ways: Pair) -> None:
    sent = [
        read(X_Request_Id="a"),
        request(X_Request_Id="b"),
        read("/v1/popular", X_Request_Id="c"),
        read(READ + "&explain=full", X_Request_Id="d"),
        read("/v1/items/i1/similar", X_Request_Id="e"),
        read("/v1/recommendations", X_Request_Id="f"),
        read(X_Request_Id="g"),
    ]
    answer = same(ways, b"".join(sent), 5)
    found = re.findall(rb"x-request-id: (\w+)", answer)
    assert found == [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"last"]


def test_fields_that_came_before_are_known_behind_another_line(ways: Pair) -> None:
    same(ways, read(X_Request_Id=None), 1)
    for target in (READ, "/v1/popular?count=1", "/v1/items/i2/similar"):
        assert ways[0].remembered[PLAIN].get(read(target, X_Request_Id=None)) is not None
        same(ways, read(target, X_Request_Id=None), 1)
    same(ways, read(READ + "&x=1", X_Request_Id=None), 0)
    same(ways, read("/v1/items/i1", X_Request_Id=None), 0)


@pytest.mark.parametrize("target", [READ + "&count=3", "/v1/items/i1/similar", READ + "&filter=x"])
def test_a_read_that_is_shed_says_so_alike(ways: Pair, target: str) -> None:
    queues = [way.serving.queue for way in ways]
    for way in ways:
        way.serving.queue = ReadQueue(1e-9, lambda: 1)
    try:
        answer = same(ways, read(target), 1)
    finally:
        for way, queue in zip(ways, queues, strict=True):
            way.serving.queue = queue
    assert (b'"fallback":"overload"' in answer) == ("filter" not in target)


def test_a_client_that_goes_before_its_answer_has_its_slate_in_the_log(ways: Pair) -> None:
    name = ("freshet_answers_total", "home", "popular")
    before = ways[0].counts()[name]
    for way in ways:
        with closing(way.connect()) as connection:
            connection.sendall(read())
    until(lambda: all(way.counts()[name] > before for way in ways))
    same(ways, read(), 1)


def test_the_log_of_both_is_the_same(ways: Pair) -> None:
    """What the tests above read, headers included."""
    found = re.search(rb"x-slate-id: (\w+)", same(ways, read(traceparent=TRACE), 1))
    assert found is not None
    for topic in (SLATES.name, EVENTS.name):
        until(partial(_have, ways, topic, found[1]))
        direct, usual = (sorted((p, *it) for p, _, *it in way.records(topic)) for way in ways)
        assert direct == usual
        assert {len(it[-1]) for it in direct} == {1, 2}, "with a trace and without"


def _have(ways: Pair, topic: str, slate_id: bytes) -> bool:
    return all(any(slate_id in it[3] for it in way.records(topic)) for way in ways)
