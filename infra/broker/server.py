"""The connection loop: one request after the other, each answered before the next is read."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from kafka.protocol.metadata import ApiVersionsRequest

from infra.broker.apis import APIS, versions
from infra.broker.codes import LOG, CannotStart, Code
from infra.broker.handlers.missing import CONSUMER_GROUP_HEARTBEAT, refused_heartbeat
from infra.broker.node import Broker
from infra.broker.wire import Call, Malformed, decode, encode, frame_size, head_of
from infra.heartbeat import keep_beating

BUFFER: Final = 1 << 20  # bytes a connection may have waiting before its socket is left alone
ANY_HOST: Final = ("0.0.0.0", "::", "")


class Server:
    """Listens for `broker`; `port` is the one that was bound.

    `advertised` is where clients reach it, if that is somewhere else.
    """

    def __init__(self, broker: Broker, advertised: tuple[str, int] | None = None) -> None:
        self._broker, self._advertised = broker, advertised
        self._connections: set[asyncio.Task[None]] = set()
        self.host, self.port = "", 0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[Server]:
        """Accepts connections while the block runs; port 0 is any. Errors: `CannotStart`."""
        try:
            server = await asyncio.start_server(self._connected, host, port, limit=BUFFER)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "no address"
            raise CannotStart(f"cannot listen on {host}:{port}: {reason}") from error
        self.host, self.port = host, server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            _tune(writer.get_extra_info("socket"))
            await self._converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, Malformed):
            pass  # the peer is gone, or was none of ours: nobody to tell
        except asyncio.CancelledError:
            writer.transport.abort()  # the broker stops, and the peer may not be reading
        except Exception as error:  # one request must not end the others; texts may hold payload
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = type(error).__name__
            LOG.error("%s at %s:%s; connection closed", kind, place.filename, place.lineno)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str(writer.get_extra_info("peername")[0])
        local = str(writer.get_extra_info("sockname")[0])
        own = (local if self.host in ANY_HOST else self.host, self.port)
        advertised = self._advertised or own
        while True:
            frame = await reader.readexactly(frame_size(await reader.readexactly(4)))
            head = head_of(frame)
            api = APIS.get(head.api)
            if head.api == CONSUMER_GROUP_HEARTBEAT:
                writer.write(refused_heartbeat(head.correlation))
                continue
            if api is None:
                raise Malformed("unknown API")
            if not api.low <= head.version <= api.high:
                if api.codec is not ApiVersionsRequest:
                    raise Malformed("unsupported version")
                writer.write(encode(versions(Code.UNSUPPORTED_VERSION), head.correlation, 0))
                continue
            request = decode(api.codec, head, frame)
            call = Call(request, head.version, head.client, f"/{peer}", advertised)
            response = await api.handle(self._broker, call)
            if response is not None:
                writer.write(encode(response, head.correlation, head.version))
                await writer.drain()


def _tune(peer: socket.socket) -> None:
    """Answers leave at once, and a peer that vanished without a word is missed in two minutes."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


async def serve(
    broker: Broker,
    host: str,
    port: int,
    ready: Callable[[str, int], None],
    advertised: tuple[str, int] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; calls `ready(host, port)` once it listens.

    Errors: `CannotStart`. The broker is left open.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Server(broker, advertised).listening(host, port) as server:
        chores = [
            asyncio.create_task(broker.keep_flushing()),
            asyncio.create_task(broker.keep_retaining()),
            asyncio.create_task(keep_beating()),
        ]
        try:
            ready(server.host, server.port)
            await stop.wait()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
