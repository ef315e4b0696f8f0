"""A listener with TLS, SASL or both, in front of a broker that has neither, as Kafka's listeners behave."""

from __future__ import annotations

import asyncio
import ssl
import struct
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final, Protocol

from kafka.protocol.metadata import ApiVersionsResponse
from kafka.protocol.sasl import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
    SaslHandshakeRequest,
    SaslHandshakeResponse,
)

from tests.support.sasl_server import MECHANISMS, Exchange, Refused
from tests.support.tls_stream import TlsStream

HOST: Final = "127.0.0.1"
_API_VERSIONS: Final = 18
_UNSUPPORTED_MECHANISM: Final = 33
_AUTHENTICATION_FAILED: Final = 58


class Stream(Protocol):
    """What a session needs of a client's connection."""

    async def readexactly(self, count: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...


class _Plain:
    """A connection without TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.readexactly, self.write, self.drain = reader.readexactly, writer.write, writer.drain


class SecureListener:
    """Listens on `port` of `HOST`, in a thread of its own, until `close`. `users`: name -> password; None: no
    SASL. `lifetime_ms`: how long a session of SASL holds (KIP-368); 0: for ever."""

    def __init__(
        self,
        target: int,
        port: int = 0,
        *,
        context: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
        mechanisms: tuple[str, ...] = MECHANISMS,
        lifetime_ms: int = 0,
    ) -> None:
        self.target, self.users, self.mechanisms = target, users, mechanisms
        self._context = context
        self.lifetime_ms, self.authenticated, self.expired = lifetime_ms, 0, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accepted, HOST, port, limit=1 << 24))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Ends every connection; new ones are taken."""
        self._run(self._cut())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _close(self) -> None:
        self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            client: Stream = _Plain(reader, writer)
            if self._context is not None:
                client = TlsStream(self._context, reader, writer)
                await client.handshake()
            there, back = await asyncio.open_connection(HOST, self.target, limit=1 << 24)
            try:
                await _Session(self, client, there, back).run()
            finally:
                back.close()
        except (asyncio.CancelledError, OSError, EOFError):
            pass  # it was closed, by either side
        finally:
            writer.close()  # what was written still goes out
            self._tasks.discard(task)


class _Session:
    """One client's connection: what is SASL is answered here, the rest by the broker, in order."""

    def __init__(
        self,
        listener: SecureListener,
        client: Stream,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        self._listener, self._client = listener, client
        self._there, self._back = there, back
        self._until = float("inf") if listener.users is None else 0.0
        self._exchange: Exchange | None = None

    async def run(self) -> None:
        # one request after the other, as Kafka does
        while True:
            frame = await _frame(self._client)
            key, version, correlation, length = struct.unpack_from(">hhih", frame)
            body = frame[10 + max(0, length) :]
            if key == SaslHandshakeRequest.API_KEY and self._listener.users is not None:
                answer = self._handshake(SaslHandshakeRequest.decode(body, version=version))
            elif key == SaslAuthenticateRequest.API_KEY and self._exchange is not None:
                flexible = SaslAuthenticateRequest.flexible_version_q(version)
                request = SaslAuthenticateRequest.decode(body[flexible:], version=version)
                answer = self._authenticate(request.auth_bytes)
                await self._send(correlation, answer.encode(version=version), flexible)
                if answer.error_code:
                    return
                continue
            elif key == _API_VERSIONS or time.monotonic() < self._until:
                await self._pass_on(frame, key, version)
                continue
            else:
                self._listener.expired += bool(self._until)
                return
            await self._send(correlation, answer.encode(version=version), False)

    def _handshake(self, request: Any) -> Any:
        known = request.mechanism in self._listener.mechanisms
        self._exchange = Exchange(request.mechanism, self._listener.users or {}) if known else None
        code = 0 if known else _UNSUPPORTED_MECHANISM
        return SaslHandshakeResponse(error_code=code, mechanisms=list(self._listener.mechanisms))

    def _authenticate(self, token: bytes) -> Any:
        assert self._exchange is not None
        try:
            reply = self._exchange.answer(bytes(token))
        except Refused:
            return SaslAuthenticateResponse(
                error_code=_AUTHENTICATION_FAILED,
                error_message="Authentication failed",
                auth_bytes=b"",
                session_lifetime_ms=0,
            )
        lifetime_ms = self._listener.lifetime_ms
        if self._exchange.done:
            self._listener.authenticated += 1
            self._exchange = None
            self._until = time.monotonic() + lifetime_ms / 1000 if lifetime_ms else float("inf")
        return SaslAuthenticateResponse(
            error_code=0, error_message=None, auth_bytes=reply, session_lifetime_ms=lifetime_ms
        )

    async def _pass_on(self, frame: bytes, key: int, version: int) -> None:
        self._back.write(struct.pack(">i", len(frame)) + frame)
        answer = await _frame(self._there)
        if key == _API_VERSIONS and self._listener.users is not None:
            answer = answer[:4] + _with_sasl(answer[4:], version)
        self._client.write(struct.pack(">i", len(answer)) + answer)
        await self._client.drain()

    async def _send(self, correlation: int, body: bytes, flexible: bool) -> None:
        header = struct.pack(">i", correlation) + b"\0" * flexible
        self._client.write(struct.pack(">i", len(header) + len(body)) + header + body)
        await self._client.drain()


async def _frame(reader: Stream | asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    if not 8 <= size <= 1 << 24:  # as Kafka: what is no request ends the connection
        raise EOFError
    return await reader.readexactly(size)


def _with_sasl(body: bytes, version: int) -> bytes:
    """The broker's answer to ApiVersions, with SASL's two."""
    answer = ApiVersionsResponse.decode(body, version=version)
    if answer.error_code:
        return body
    entry = type(answer.api_keys[0])
    for request, newest in ((SaslHandshakeRequest, 1), (SaslAuthenticateRequest, 2)):
        answer.api_keys.append(
            entry(api_key=request.API_KEY, min_version=0, max_version=newest, version=version)
        )
    answer._header = None  # kafka-python's decoding leaves it out
    return bytes(answer.encode(version=version))
