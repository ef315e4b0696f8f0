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
from infra.broker.wire import Call, Malformed, decode, encode, frame_size, request_header
from infra.heartbeat import keep_beating

READ_BUFFER_BYTES: Final = 1 << 20  # unread bytes of a connection; the socket is not read beyond
WILDCARD_HOSTS: Final = ("0.0.0.0", "::", "")


class Server:
    """Listens for `broker`; `port` is the bound one.

    `advertised` is the address for clients, where it is not the listening one.
    """

    def __init__(self, broker: Broker, advertised: tuple[str, int] | None = None) -> None:
        self._broker, self._advertised = broker, advertised
        self._connections: set[asyncio.Task[None]] = set()
        self.host, self.port = "", 0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[Server]:
        """Accepts connections while the block runs; port 0 is any. Errors: `CannotStart`."""
        try:
            server = await asyncio.start_server(
                self._connected, host, port, limit=READ_BUFFER_BYTES
            )
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
            _set_socket_options(writer.get_extra_info("socket"))
            await self._answer_requests(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, Malformed):
            pass  # the peer is gone or is no Kafka client
        except asyncio.CancelledError:
            writer.transport.abort()  # the broker stops, and the peer may not be reading
        except Exception as error:  # a request must not end the others; a text may hold payload
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = type(error).__name__
            LOG.error("%s at %s:%s; connection closed", kind, frame.filename, frame.lineno)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = str(writer.get_extra_info("peername")[0])
        local = str(writer.get_extra_info("sockname")[0])
        own = (local if self.host in WILDCARD_HOSTS else self.host, self.port)
        advertised = self._advertised or own
        while True:
            frame = await reader.readexactly(frame_size(await reader.readexactly(4)))
            header = request_header(frame)
            api = APIS.get(header.api)
            if header.api == CONSUMER_GROUP_HEARTBEAT:
                writer.write(refused_heartbeat(header.correlation))
                continue
            if api is None:
                raise Malformed("unknown API")
            if not api.min_version <= header.version <= api.max_version:
                if api.codec is not ApiVersionsRequest:
                    raise Malformed("unsupported version")
                writer.write(encode(versions(Code.UNSUPPORTED_VERSION), header.correlation, 0))
                continue
            request = decode(api.codec, header, frame)
            call = Call(request, header.version, header.client, f"/{peer}", advertised)
            response = await api.handle(self._broker, call)
            if response is not None:
                writer.write(encode(response, header.correlation, header.version))
                await writer.drain()


def _set_socket_options(peer: socket.socket) -> None:
    """Sends answers at once, and notices within two minutes that a silent peer is gone."""
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

    The caller closes the broker. Errors: `CannotStart`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Server(broker, advertised).listening(host, port) as server:
        background = [
            asyncio.create_task(broker.flush_periodically()),
            asyncio.create_task(broker.apply_retention_periodically()),
            asyncio.create_task(keep_beating()),
        ]
        try:
            ready(server.host, server.port)
            await stop.wait()
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
