"""Connections: how long they may take, how many there may be, and requests that come in pieces."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.http.bounds import ConnectionLimits
from serving.http.connections import Connections
from tests.support.bounded import UNBOUNDED, Listener, bounded, plain

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /b?c=d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = b"POST /c HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ONE = POST + b"Content-Length: 7\r\n\r\n[1,\r\n2]"
CHUNKS = (
    POST
    + b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n[\r\n4\r\n1,\r\n\r\n02\r\n2]\r\n0\r\nA: b\r\n\r\n"
)
UPGRADE = POST + b"Connection: Upgrade\r\nupgrade: h2c\r\nContent-Length: 1\r\n\r\n2"
SENT = b"\r\n".join([GET, ONE, CHUNKS, b"", UPGRADE, CHUNKS, LAST])
SOON = UNBOUNDED._replace(sweep_seconds=0.01)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def code(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])["code"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, len(SENT) - 1), max_size=12, unique=True))
def test_any_split_of_requests_gives_the_same_answers(places: list[int]) -> None:
    async def answers() -> tuple[bytes, bytes]:
        at = [0, *sorted(places), len(SENT)]
        pieces = [SENT[start:end] for start, end in pairwise(at)]
        async with bounded() as listener:
            return await listener.answer(SENT), await listener.answer(*pieces)

    whole, split = uvloop.run(answers())
    assert whole == split
    assert whole.count(b"HTTP/1.1 200 OK") == 6


def test_one_byte_at_a_time() -> None:
    async def answers() -> tuple[bytes, bytes]:
        async with bounded() as listener:
            pieces = [SENT[n : n + 1] for n in range(len(SENT))]
            return await listener.answer(SENT), await listener.answer(*pieces)

    whole, split = uvloop.run(answers())
    assert whole == split


def refused(limits: ConnectionLimits, *pieces: bytes) -> bytes:
    """The answer to pieces of which the last one is sent again and again."""

    async def answer() -> bytes:
        async with bounded(limits=limits) as listener:
            reader, writer = await listener.connect()
            for piece in pieces:
                writer.write(piece)
            read = asyncio.ensure_future(reader.read())
            while not read.done():
                writer.write(pieces[-1])
                await asyncio.wait([read], timeout=0.001)
            writer.close()
            try:
                return await read
            except ConnectionResetError:  # closed without an answer, while more was sent
                return b""

    return uvloop.run(answer())


def test_a_head_that_does_not_end_is_refused_in_time() -> None:
    limits = SOON._replace(head_seconds=0.15)
    for pieces in ((b"G",), (GET[:-1], b""), (ONE, GET[:-2], b"")):
        start, _, answer = refused(limits, *pieces).rpartition(b"HTTP/1.1 408 ")
        assert start.count(b"HTTP/1.1 ") == len(pieces) // 3
        assert code(answer) == "request_timeout"


def test_a_connection_that_sends_nothing_is_closed() -> None:
    for pieces in ((b"",), (b"\r\n",)):
        assert refused(SOON._replace(head_seconds=0.15), *pieces) == b""
    answer = refused(SOON._replace(keep_alive_seconds=0.15), GET, b"")
    assert status(answer) == 200


def test_a_body_that_trickles_is_refused() -> None:
    limits = SOON._replace(grace_seconds=0.05)
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for pieces in (
        (POST + b"Content-Length: 1000\r\n\r\n", b" "),
        (chunked, b"1\r\n \r\n"),
        (chunked + b"1;", b"x"),
        (chunked + b"0\r\nA: ", b"x"),
    ):
        answer = refused(limits, *pieces)
        assert (status(answer), code(answer)) == (408, "request_timeout")


def test_a_client_that_waits_to_go_on_does_not_trickle() -> None:
    async def answer() -> bytes:
        may_read = asyncio.Event()

        async def late(scope: Any, receive: Any, send: Any) -> None:
            await may_read.wait()
            await receive()

        limits = SOON._replace(grace_seconds=0.05, head_seconds=0.2)
        async with bounded(late, limits) as listener:
            reader, writer = await listener.connect()
            writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n")
            assert status(await listener.answer(GET[:-1])) == 408
            may_read.set()
            first = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return first

    assert status(uvloop.run(answer())) == 100


def test_who_was_not_asked_for_a_body_starts_anew() -> None:
    async def answer() -> bytes:
        async def at_once(scope: Any, receive: Any, send: Any) -> None:
            await plain(b"no")(scope, receive, send)

        async with bounded(at_once) as listener:
            head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GET)
            return await listener.answer(head, GET)

    answers = uvloop.run(answer())
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"\r\nconnection: close\r\n") == 1


def test_an_answer_that_comes_before_the_body_can_be_read() -> None:
    """Of a connection that ends with it: to close what is not read would reset it."""

    async def answer() -> bytes:
        async def at_once(scope: Any, receive: Any, send: Any) -> None:
            await plain(b"no")(scope, receive, send)

        async with bounded(at_once) as listener:
            reader, writer = await listener.connect()
            writer.write(POST + b"Connection: close\r\nContent-Length: 4000000\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(bytes(4_000_000))
            await writer.drain()
            body = await reader.read()
            writer.close()
            return head + body

    head, _, body = uvloop.run(answer()).partition(b"\r\n\r\n")
    assert head.endswith(b"connection: close")
    assert body == b"no"


def test_empty_lines_before_a_request_are_bounded() -> None:
    async def answers() -> list[bytes]:
        async with bounded() as listener:
            few = await listener.answer(b"\r\n" * 10 + GET, b"\r\n" * 10, LAST)
            return [few, await listener.answer(b"\r\n" * 1000)]

    few, many = uvloop.run(answers())
    assert few.count(b"HTTP/1.1 200 ") == 2
    assert (status(many), code(many)) == (400, "malformed")


def test_answers_that_nobody_reads_are_bounded() -> None:
    asked = 0

    async def large(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await plain(bytes(30_000))(scope, receive, send)

    async def ask() -> None:
        async with bounded(
            large, SOON._replace(grace_seconds=0.05, bytes_per_second=1e9)
        ) as listener:
            _, writer = await listener.connect()  # its reader takes two pieces and pauses
            writer.write(GET * 100_000)
            await listener.closed.wait()
            assert listener.connections.body_bytes == 0
            writer.transport.abort()

    uvloop.run(ask())
    assert asked < 5_000  # what the sockets of both sides hold


async def first(listener: Listener, sent: bytes) -> bytes:
    reader, writer = await listener.connect()
    writer.write(sent)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return answer


def test_one_connection_too_many_is_told() -> None:
    async def answers(limits: ConnectionLimits) -> tuple[bytes, bytes]:
        async with bounded(limits=limits) as listener:
            _, writer = await listener.connect()
            writer.write(POST)
            _, other = await listener.connect()
            beyond = await first(listener, GET)
            other.close()
            while len(listener.protocols) < 3 or not listener.closed.is_set():
                await asyncio.sleep(0)
            again = b""
            while not again.startswith(b"HTTP/1.1 200 "):
                again = await first(listener, GET)
            writer.close()
            return beyond, again

    for limits, expected in (
        (UNBOUNDED._replace(connections=2, connections_per_address=0), 503),
        (UNBOUNDED._replace(connections_per_address=2), 429),
    ):
        beyond, _ = uvloop.run(answers(limits))
        assert status(beyond) == expected
        assert b"retry-after: 1\r\n" in beyond


def test_a_stopping_process_closes_what_waits_for_no_answer() -> None:
    async def stop() -> None:
        async with bounded() as listener:
            for number, sent in enumerate((b"", GET[:-1], b"x")):
                reader, writer = await listener.connect()
                writer.write(sent)
                if sent == b"x":  # is refused
                    await reader.readuntil(b"}")
                while len(listener.protocols) <= number:
                    await asyncio.sleep(0)
                listener.closed.clear()
                listener.protocols[-1].shutdown()
                await listener.closed.wait()
                writer.close()

    uvloop.run(stop())


def test_a_stopping_process_does_not_wait_long_for_a_body() -> None:
    async def stop() -> bytes:
        async with bounded(limits=SOON._replace(stop_seconds=0.01)) as listener:
            reader, writer = await listener.connect()
            writer.write(POST + b"Content-Length: 1000\r\n\r\n ")
            while not listener.connections.body_bytes:
                await asyncio.sleep(0)
            listener.protocols[-1].shutdown()
            answer = await reader.read()
            await listener.closed.wait()
            writer.close()
            return answer

    answer = uvloop.run(stop())
    assert (status(answer), code(answer)) == (503, "service_unavailable")
    assert b"retry-after: 1\r\n" in answer


def test_who_is_told_of_too_many_leaves_files_free() -> None:
    for files, most in ((256, 192), (1024, 960), (4300, 4236), (20_000, 4096 + 256), (-1, 4352)):
        assert uvloop.run(filled(files)) == most


async def filled(files: int) -> int:
    connections = Connections(UNBOUNDED._replace(connections_per_address=0), files)
    number = 0
    with suppress(OverflowError):
        while True:
            connections.add(Unlimited(), "192.0.2.1")
            number += 1
    return number


class Unlimited:
    def check_deadline(self, now: float) -> None:
        pass


def test_bodies_are_bounded_together() -> None:
    async def answers() -> tuple[bytes, bytes]:
        async with bounded(limits=UNBOUNDED._replace(body_bytes=1000)) as listener:
            half = POST + b"Content-Length: 1000\r\n\r\n" + b" " * 600
            reader, writer = await listener.connect()
            writer.write(half)
            while not listener.connections.body_bytes:
                await asyncio.sleep(0)
            beyond = await listener.answer(half)
            writer.write(b" " * 399 + b"1")
            taken = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return beyond, taken

    beyond, taken = uvloop.run(answers())
    assert (status(beyond), code(beyond)) == (503, "service_unavailable")
    assert status(taken) == 200


def test_small_chunks_cost_no_more_than_their_bytes() -> None:
    async def answer() -> bytes:
        async with bounded() as listener:
            sent = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            return await listener.answer(sent + b"1\r\n1\r\n" * 20_000 + b"0\r\n\r\n")

    said = json.loads(uvloop.run(answer()).partition(b"\r\n\r\n")[2])["asked"]
    assert said.count("1") >= 20_000


def test_who_is_refused_is_not_asked_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing may be written behind a problem; and a client that sends nonsense leaves no line in the log."""
    got: list[str] = []

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        got.append("asked")
        got.append((await receive())["type"])

    async def answer() -> bytes:
        async with bounded(reads) as listener:
            sent = POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"
            answer = await listener.answer(sent)
            while not got:
                await asyncio.sleep(0)
            return answer + await listener.answer(b"GET / HTTP/1.1\r\nA\r\n\r\n")

    answers = uvloop.run(answer())
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 400 ") == 2
    assert got == ["asked", "http.disconnect"]
    assert not caplog.records
