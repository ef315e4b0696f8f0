"""The server's end of TLS over asyncio's streams. asyncio's own drops the alert that says why a handshake
failed, which Kafka sends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any


class TlsStream:
    """The part of a reader and of a writer that a listener needs. Errors: OSError (an SSLError is one),
    EOFError."""

    def __init__(
        self,
        context: ssl.SSLContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._held = b""

    async def handshake(self) -> None:
        await self._until_done(self._tls.do_handshake)

    async def readexactly(self, count: int) -> bytes:
        while len(self._held) < count:
            more = await self._until_done(lambda: self._tls.read(1 << 16))
            if not more:
                raise EOFError
            self._held += more
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def write(self, data: bytes) -> None:
        self._tls.write(data)  # it never waits for the peer: what it writes lies in memory
        self._flush()

    async def drain(self) -> None:
        await self._writer.drain()

    async def _until_done(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                return work()
            except ssl.SSLWantReadError:
                self._flush()
                data = await self._reader.read(1 << 16)
                if not data:
                    raise EOFError from None
                self._incoming.write(data)
            finally:
                self._flush()  # the alert, too

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
