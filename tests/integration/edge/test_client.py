"""The Python client against the API: accepted and refused requests, and answers changed by a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import msgspec
import pytest

from infra.client.answers import CatalogueItem, LinkAnswer
from infra.client.client import Client
from infra.client.errors import ApiError, FieldError
from infra.local import services
from infra.settings import Settings
from schemas import events
from schemas.control import Experiment, Recipe, Variant
from schemas.events import EventIn, Link, Unlink
from schemas.items import ItemIn
from tests.support.http import Server, record_at, serving
from tests.support.shops import Shop, opened

CLICK = EventIn(user_id="a/b ü", item_id="i1", action="click", event_id="e1")
AB = Experiment(
    placement="home", variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5))
)


def ask(server: Server, does: Callable[[Client], Awaitable[Any]], token: str = "") -> Any:
    """The result of `does` with a client of one connection."""

    async def run() -> Any:
        connection = server.connect()
        url = f"http://{connection.host}:{connection.port}"
        async with Client(url, token, connections=1) as client:
            return await does(client)

    return asyncio.run(run())


def test_what_the_client_sends_is_in_the_log(edge: Server) -> None:
    async def does(client: Client) -> list[list[str]]:
        sent = await client.send_events([CLICK])
        assert (sent.value.accepted, sent.value.rejected, sent.value.durable) == (1, [], "broker")
        assert 0 < sent.ms < 30_000
        put = await client.put_item("a/b ü", ItemIn(title="A film", category="drama"))
        placed = await client.put_placement("home", Recipe(category_cap=0.5), reason="a test")
        tried = await client.put_experiment("ab", AB, expected_version=3)
        return [it.positions for it in (sent.value, put, placed, tried)]

    (event,), (item,), (placed,), (tried,) = ask(edge, does)

    def logged(topic: str, position: str) -> Any:
        return msgspec.json.decode(record_at(edge.settings, topic, position).value)

    assert logged("events", event)["event_id"] == "e1"
    assert logged("items", item)["item"] == {
        "item_id": "a/b ü",
        "title": "A film",
        "category": "drama",
        "categories": ["drama"],
    }
    assert (logged("control", placed)["body"], logged("control", placed)["reason"]) == (
        {"category_cap": 0.5},
        "a test",
    )
    assert (logged("control", tried)["id"], logged("control", tried)["expected_version"]) == (
        "ab",
        3,
    )


def test_a_link_and_an_unlink_are_pending_where_no_flow_decides(edge: Server) -> None:
    async def does(client: Client) -> list[LinkAnswer]:
        return [await client.link("a/b ü", "d1"), await client.unlink("a/b ü", "d1")]

    link, unlink = ask(edge, does)
    for answer in (link, unlink):
        assert (answer.linked, answer.why, answer.pending) == (None, None, True)
    for answer, kind in ((link, Link), (unlink, Unlink)):
        record = record_at(edge.settings, "events", answer.position)
        assert isinstance(events.decode_stored(record.value), kind)


def test_history_is_of_the_time_at_which_it_happened(edge: Server) -> None:
    event = msgspec.structs.replace(CLICK, occurred_at="2020-01-01T00:00:00.000Z")
    sent = ask(edge, lambda client: client.send_events([event], history=True)).value
    logged = msgspec.json.decode(record_at(edge.settings, "events", sent.positions[0]).value)
    assert logged["received_at"] == logged["occurred_at"] == 1_577_836_800_000


def test_a_refusal_says_which_field_and_keeps_no_value(edge: Server) -> None:
    async def does(client: Client) -> None:
        await client.send_events([{"user_id": "u", "item_id": "i", "action": "secret"}])

    with pytest.raises(ApiError) as caught:
        ask(edge, does)
    error = caught.value
    assert (error.status, error.code, error.problem) == (422, "invalid", "422 invalid")
    assert list(error.errors) == [FieldError(field="events[0].action", code="unknown_action")]
    assert "secret" not in f"{error!r} {vars(error)}"


def test_rejected_events_are_in_the_answer(edge: Server) -> None:
    bad = msgspec.structs.replace(CLICK, action="never")
    sent = ask(edge, lambda client: client.send_events([CLICK, bad])).value
    assert (sent.accepted, [(it.index, it.code) for it in sent.rejected]) == (
        1,
        [(1, "unknown_action")],
    )


def test_an_api_that_does_not_listen_is_an_error_without_a_status() -> None:
    async def does() -> None:
        async with Client(f"http://127.0.0.1:{services.free_port()}") as client:
            await client.status()

    with pytest.raises(ApiError, match=r"the API did not answer \(ConnectionRefusedError\)"):
        asyncio.run(does())


def test_an_unknown_token_is_refused_and_the_right_one_is_not(
    redis_url: str, broker: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka_bootstrap=broker,
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        port=0,
        token="right-of-16-bytes",
    )
    with serving(settings, tmp_path / "log") as server:
        with pytest.raises(ApiError, match="401"):
            ask(server, lambda client: client.status(), "wrong")
        assert ask(server, lambda client: client.status(), "right-of-16-bytes").tables == "0"


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with opened(redis_url, broker, tmp_path_factory.mktemp("shop")) as found:
        yield found


def test_a_list_is_what_the_api_answers(shop: Shop) -> None:
    read = ask(shop.server, lambda client: client.recommendations("u1", count=3))
    answer = read.value
    assert len(answer.items) == 3
    assert all(item.reason and item.reason.text for item in answer.items)
    assert (answer.position, answer.stale, answer.waited_ms) == (
        shop.read("user_id=u1")["freshness"]["position"],
        False,
        0,
    )
    assert answer.served_by.experiments == ()


def test_a_read_whose_wait_times_out_is_stale(shop: Shop) -> None:
    _, partition = shop.where("u1")

    async def does(client: Client) -> Any:
        return await client.recommendations("u1", after=f"{partition}:99", max_wait_ms=1)

    assert ask(shop.server, does).value.stale


def test_an_item_says_whether_it_is_indexed(shop: Shop) -> None:
    found = ask(shop.server, lambda client: client.item("i1"))
    assert found == CatalogueItem(item_id="i1", indexed=True)
    with pytest.raises(ApiError, match="404 unknown_item"):
        ask(shop.server, lambda client: client.item("no such/item"))


def test_an_experiment_is_found_by_its_id(shop: Shop) -> None:
    shop.control("experiment:ab", AB)
    shop.until("/v1/experiments", lambda body: body["experiments"])
    assert ask(shop.server, lambda client: client.experiment("ab")).version == 1
    metrics = ask(shop.server, lambda client: client.metrics("ab"))
    assert [it.variant for it in metrics.variants] == ["a", "b"]


ANSWERS = {
    "in chunks": (
        b"Transfer-Encoding: chunked\r\n\r\n"
        b'9;name=value\r\n{"item_id\r\nF\r\n":"a","indexed"\r\n6\r\n:true}\r\n0\r\nX-Trailer: 1\r\n\r\n'
    ),
    "with a length": b'Content-Length: 30\r\n\r\n{"item_id":"a","indexed":true}',
    "and the connection ends": (
        b'Connection: close\r\nContent-Length: 30\r\n\r\n{"item_id":"a","indexed":true}'
    ),
}


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that answers every request with these bytes. Yields its address."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                while self.rfile.readline() != b"\r\n":
                    pass
                self.wfile.write(b"HTTP/1.1 200 OK\r\n" + answer)
                if b"Connection: close" in answer:
                    return

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def items(url: str, count: int) -> list[CatalogueItem]:
    async with Client(url, connections=1) as client:
        return [await client.item("a") for _ in range(count)]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_however_a_proxy_sends_a_body_it_is_read(answer: bytes) -> None:
    with answering(answer) as where:
        found = asyncio.run(items(f"http://me:secret@{where}", 2))
    assert found == 2 * [CatalogueItem(item_id="a", indexed=True)]


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"[]", b'{"item_id": 1}'])
def test_what_is_not_the_api_is_unreadable_and_not_quoted(body: bytes) -> None:
    with (
        answering(b"Content-Length: %d\r\n\r\n" % len(body) + body) as where,
        pytest.raises(ApiError) as caught,
    ):
        asyncio.run(items(f"http://{where}", 1))
    assert str(caught.value) == "the API answered 200 unreadable"


def test_https_is_not_spoken_in_the_clear() -> None:
    """The client ignores an answer in the clear."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.rfile.read()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(ApiError, match="SSLError"):
            asyncio.run(items(f"https://127.0.0.1:{server.server_address[1]}", 1))
        thread.join()
