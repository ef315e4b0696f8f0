"""Listens, and serves until a signal."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from infra.broker.codes import CannotStart
from infra.broker.connection import ClientConnection
from infra.broker.node import Broker
from infra.heartbeat import keep_beating

WILDCARD_HOSTS: Final = ("0.0.0.0", "::", "")
LISTEN_BACKLOG: Final = 4096
"""Connections that wait to be accepted: beyond, a client tries again after a second."""


class Server:
    """Listens for `broker`; `port` is the bound one.

    `advertised` is the address for clients, where it is not the listening one.
    """

    def __init__(self, broker: Broker, advertised: tuple[str, int] | None = None) -> None:
        self.broker, self._advertised = broker, advertised
        self.connections: set[ClientConnection] = set()
        self.host, self.port = "", 0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[Server]:
        """Accepts connections while the block runs; port 0 is any. Errors: `CannotStart`."""
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(
                lambda: ClientConnection(self), host, port, backlog=LISTEN_BACKLOG
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "no address"
            raise CannotStart(f"cannot listen on {host}:{port}: {reason}") from error
        self.host, self.port = host, server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in list(self.connections):
                connection.abort()
            while self.connections:  # each leaves the set with the next turn of the loop
                await asyncio.sleep(0)

    def advertised_to(self, local: str) -> tuple[str, int]:
        """The address for a client that reached this machine under `local`."""
        own = (local if self.host in WILDCARD_HOSTS else self.host, self.port)
        return self._advertised or own


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
