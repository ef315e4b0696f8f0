"""The protocol of a serving process in front of an application of a test's own, in the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from uvicorn.server import ServerState

from serving.http.body import read_body
from serving.http.bounds import ConnectionLimits
from serving.http.connections import Connections
from serving.http.protocol import BoundedProtocol

Application = Callable[[Any, Any, Any], Awaitable[None]]
UNBOUNDED = ConnectionLimits(head_seconds=1e9, keep_alive_seconds=1e9, grace_seconds=1e9)
"""No bound in time."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked, in bytes that are the same for the same request."""
    request = Request(scope, receive, send)
    content = b"" if request.method == "GET" else (await read_body(request)).content
    said = [request.method, scope["raw_path"], scope["headers"], content]
    await JSONResponse({"asked": repr(said)})(scope, receive, send)


class Listener:
    """A listener and the protocols of its connections."""

    def __init__(self, application: Application, limits: ConnectionLimits) -> None:
        self.closed = asyncio.Event()
        """A connection has been lost."""
        self.protocols: list[BoundedProtocol] = []
        self.connections = connections = Connections(limits)
        listener = self

        class Observed(BoundedProtocol):
            accepted = connections

            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                listener.closed.set()

        config = uvicorn.Config(application, lifespan="off", ws="none", log_config=None)
        config.load()
        config.loaded_app = application  # without uvicorn's own middleware
        state = ServerState()

        def connected() -> BoundedProtocol:
            self.protocols.append(Observed(config, state, {}))
            return self.protocols[-1]

        self.connected = connected
        self.port = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, *pieces: bytes) -> bytes:
        """All that comes until the server closes, where each piece is read before the next one is sent."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def bounded(
    application: Application = echo, limits: ConnectionLimits = UNBOUNDED
) -> AsyncIterator[Listener]:
    listener = Listener(application, limits)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(listener.connected, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


def plain(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")
