"""Frames of a connection to a broker: whole, cut, several at once; and what ends it, once, and why."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from infra.kafka import connection
from infra.kafka.connection import MAX_ANSWER_BYTES, BrokenConnection, BrokerConnection
from infra.settings import Settings

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, list[int]], Awaitable[None]]


def answer(correlation: int, body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation) + body


async def requests(reader: asyncio.StreamReader, count: int) -> list[int]:
    """Correlation ids of the next requests."""
    found = []
    for _ in range(count):
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        found.append(struct.unpack_from(">hhi", await reader.readexactly(size))[2])
    return found


VERSIONS = struct.pack(">hi6h", 0, 2, 0, 0, 8, 3, 0, 1)
"""An answer to ApiVersions v0: Produce 0 to 8, Metadata 0 and 1."""
METADATA = struct.pack(">iii", 0, 1, 0)
"""An answer to Metadata v1: no brokers, controller 1, no topics."""


def talk(script: Script, sends: int = 1) -> tuple[list[bytes], list[Exception | None]]:
    """What came for `sends` requests of a connection to a broker that does as `script` once it is open, and
    the reasons of its end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (VERSIONS, METADATA):
            (correlation,) = await requests(reader, 1)
            writer.write(answer(correlation, body))
        try:
            await script(reader, writer, await requests(reader, sends))
        except OSError:
            pass
        finally:
            writer.close()

    async def work() -> tuple[list[bytes], list[Exception | None]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        got: list[bytes] = []
        lost: list[Exception | None] = []
        port = server.sockets[0].getsockname()[1]
        made = await BrokerConnection.open(
            Settings(), "127.0.0.1", port, lambda _, reason: lost.append(reason)
        )
        for _ in range(sends):
            made.send(
                0, 8, (b"body", memoryview(b"more")), lambda frame, at: got.append(frame[at:])
            )
        assert made.in_flight == sends
        await made.wait_closed()
        assert made.in_flight == 0
        server.close()
        return got, lost

    return uvloop.run(work())


def test_answers_come_whole_however_they_are_cut() -> None:
    big = bytes(range(256)) * 400

    async def script(_: Any, writer: asyncio.StreamWriter, ids: list[int]) -> None:
        data = answer(ids[0], b"") + answer(ids[1], b"abc") + answer(ids[2], big)
        for at in range(30):
            writer.write(data[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(data[30:])
        await writer.drain()

    got, lost = talk(script, sends=3)
    assert got == [b"", b"abc", big]
    assert [type(it) for it in lost] == [EOFError]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 3),
        struct.pack(">i", MAX_ANSWER_BYTES + 1),
        answer(7, b"of none"),
        answer(-2, b"negative"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_what_is_no_answer_ends_the_connection(data: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: Any) -> None:
        writer.write(data)
        await reader.read()  # until the client ends it

    got, lost = talk(script)
    assert got == []
    assert [type(it) for it in lost] == [BrokenConnection]


def test_answers_out_of_order_end_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ids: Any) -> None:
        writer.write(answer(ids[1], b"second") + answer(ids[0], b"first"))
        await reader.read()

    got, lost = talk(script, sends=2)
    assert got == []
    assert [type(it) for it in lost] == [BrokenConnection]


def test_more_answers_than_requests_end_the_connection() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ids: Any) -> None:
        writer.write(answer(ids[0], b"first") + answer(ids[0] + 1, b"of none"))
        await reader.read()

    got, lost = talk(script)
    assert got == [b"first"]
    assert [type(it) for it in lost] == [BrokenConnection]


def test_an_answer_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.05)

    async def script(reader: asyncio.StreamReader, *_: Any) -> None:
        await reader.read()

    got, lost = talk(script)
    assert got == []
    assert [type(it) for it in lost] == [TimeoutError]


def test_a_parser_that_raises_ends_the_connection_and_abort_calls_nothing_more() -> None:
    async def work(refuses: bool) -> tuple[list[bytes], list[Exception | None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for body in (VERSIONS, METADATA):
                (correlation,) = await requests(reader, 1)
                writer.write(answer(correlation, body))
            ids = await requests(reader, 2)
            writer.write(answer(ids[0], b"1") + answer(ids[1], b"2"))
            await reader.read()
            writer.close()

        def take(frame: bytes, at: int) -> None:
            got.append(frame[at:])
            if refuses:
                raise ValueError("no answer to Produce")
            made.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        got: list[bytes] = []
        lost: list[Exception | None] = []
        port = server.sockets[0].getsockname()[1]
        made = await BrokerConnection.open(
            Settings(), "127.0.0.1", port, lambda _, reason: lost.append(reason)
        )
        for _ in range(2):
            made.send(0, 8, (b"",), take)
        await made.wait_closed()
        with pytest.raises(BrokenConnection):
            made.send(0, 8, (b"",), take)
        server.close()
        return got, lost

    got, lost = uvloop.run(work(refuses=True))
    assert (got, [type(it) for it in lost]) == ([b"1"], [BrokenConnection])
    assert uvloop.run(work(refuses=False)) == ([b"1"], [None])
