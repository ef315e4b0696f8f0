"""Which broker answers first, and what counts as no answer."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.reachable import is_reachable, open_any
from infra.settings import Settings
from tests.support.scripted_broker import ScriptedBroker
from tests.support.writers import until

NAME = "kafka.example"
SILENT = "127.0.0.2"


class NamingLoop(asyncio.SelectorEventLoop):
    """`NAME` has two addresses, as a service of many nodes has."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        if host != NAME:
            return await super().getaddrinfo(host, port, **options)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in (SILENT, "127.0.0.1")
        ]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="it counts the files of Linux")
def test_of_several_brokers_that_answer_one_connection_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        async with ScriptedBroker(tmp_path).listening() as broker:
            servers = [broker.bootstrap, broker.bootstrap, broker.bootstrap]
            assert await is_reachable(Settings(), servers)
            await asyncio.sleep(0)
            before = open_files()
            for _ in range(50):
                assert await is_reachable(Settings(), servers)
            await until(lambda: open_files() <= before, 10)

    asyncio.run(main())


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def unreadable(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers of the right size and order, whose bodies are none."""
    while size := await reader.read(4):
        frame = await reader.readexactly(*struct.unpack(">i", size))
        body = frame[4:8] + b"\0\0\x7f\xff\xff\xff more"
        writer.write(struct.pack(">i", len(body)) + body)
    writer.close()


def test_a_name_is_reached_though_its_first_address_does_not_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with ScriptedBroker(tmp_path).listening() as broker:
            port = broker.ports[1]
            server = await asyncio.start_server(silent, SILENT, port)
            made = await open_any(Settings(), [f"{NAME}:{port}"])
            assert not made.closed
            made.abort()
            await made.wait_closed()
            server.close()

    with asyncio.Runner(loop_factory=NamingLoop) as runner:
        runner.run(main())


def test_answers_that_cannot_be_read_are_none() -> None:
    async def main() -> bool:
        server = await asyncio.start_server(unreadable, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await is_reachable(Settings(kafka_bootstrap=f"127.0.0.1:{port}"))
        finally:
            server.close()

    assert not asyncio.run(main())


@pytest.mark.parametrize("server", [f"{'x' * 64}.example:9092", "a..b:9092", "127.0.0.1:70000", ""])
def test_an_address_that_is_none_does_not_answer(server: str) -> None:
    assert not asyncio.run(is_reachable(Settings(), [server]))
