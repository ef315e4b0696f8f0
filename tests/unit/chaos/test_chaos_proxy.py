"""The proxy of the chaos runs keeps order, delays, cuts connections, and closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from infra.local import services
from tests.chaos.proxy import HOST, Proxies, Proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A service that echoes its input. Answers its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def through(body: Callable[[Proxy, int], Awaitable[None]]) -> None:
    async def run() -> None:
        async with echo() as target, asyncio.timeout(20):
            proxy = Proxy(target)
            port = await proxy.listen()
            try:
                await body(proxy, port)
            finally:
                await proxy.close()

    asyncio.run(run())


async def echoed(streams: Streams, text: bytes) -> bytes:
    streams[1].write(text)
    return await streams[0].readexactly(len(text))


def test_what_passes_keeps_its_order_also_while_the_delay_changes() -> None:
    async def body(proxy: Proxy, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        sent = b"".join(b"%07d " % n for n in range(200_000))

        async def send() -> None:
            for at in range(0, len(sent), 40_000):
                proxy.delay = 0.002 * (at // 40_000 % 3)
                writer.write(sent[at : at + 40_000])
                await writer.drain()

        sending = asyncio.ensure_future(send())
        assert await reader.readexactly(len(sent)) == sent
        await sending
        writer.close()

    through(body)


def test_a_delay_counts_each_way() -> None:
    async def body(proxy: Proxy, port: int) -> None:
        streams = await asyncio.open_connection(HOST, port)
        await echoed(streams, b"hello")
        proxy.delay = 0.05
        begun = asyncio.get_running_loop().time()
        await echoed(streams, b"hello")
        assert asyncio.get_running_loop().time() - begun >= 0.1
        streams[1].close()

    through(body)


def test_a_cut_resets_every_connection_and_new_ones_get_through() -> None:
    async def body(proxy: Proxy, port: int) -> None:
        many = [await asyncio.open_connection(HOST, port) for _ in range(3)]
        for streams in many:
            await echoed(streams, b"hello")
        assert proxy.cut() == 3
        for reader, writer in many:
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            writer.close()
        streams = await asyncio.open_connection(HOST, port)
        assert await echoed(streams, b"again") == b"again"
        streams[1].close()

    through(body)


def test_no_connection_passes_while_the_proxy_is_closed() -> None:
    async def body(proxy: Proxy, port: int) -> None:
        proxy.is_open = False
        reader, writer = await asyncio.open_connection(HOST, port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await echoed((reader, writer), b"hello")
        writer.close()
        proxy.is_open = True
        streams = await asyncio.open_connection(HOST, port)
        assert await echoed(streams, b"hello") == b"hello"
        streams[1].close()

    through(body)


def test_a_process_of_proxies_closes_and_opens_them() -> None:
    async def body(proxies: Proxies, port: int) -> None:
        streams = await asyncio.open_connection(HOST, port)
        assert await echoed(streams, b"hello") == b"hello"
        proxies.adjust("it", is_open=False, cut=True)
        with pytest.raises(ConnectionResetError):
            await streams[0].read(1)
        streams[1].close()
        proxies.adjust("it")
        streams = await asyncio.open_connection(HOST, port)
        assert await echoed(streams, b"hello") == b"hello"
        streams[1].close()

    async def run() -> None:
        async with echo() as target, asyncio.timeout(20):
            port = services.free_port()
            proxies = await asyncio.to_thread(Proxies, {"it": (port, target)})
            try:
                await body(proxies, port)
            finally:
                proxies.close()

    asyncio.run(run())
