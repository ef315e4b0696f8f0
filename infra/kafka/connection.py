"""One connection to one broker on the running event loop: TLS, SASL, and frames whose answers come in order.

It has no task and no future for each request: `send` writes a frame, and the answer's bytes go to a callback.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from kafka.errors import IncompatibleBrokerVersion, UnsupportedSaslMechanismError
from kafka.protocol.api_message import ApiMessage
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.sasl import SaslHandshakeRequest

from infra.kafka import authentication, security
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings

CONNECT_SECONDS: Final = 1.7
"""For TCP, TLS, SASL and the first answer together."""
DIAGNOSE_SECONDS: Final = 0.5
"""For the look at what a listener speaks that ends our connections."""
ANSWER_SECONDS: Final = 10.0
"""A request that has waited longer for its answer ends the connection."""
MAX_ANSWER_BYTES: Final = 16 << 20
CLIENT_ID: Final = b"freshet"
_CORRELATIONS: Final = 1 << 31
_HEADER: Final = struct.Struct(f">ihhih{len(CLIENT_ID)}s")
"""Size, key, version, correlation, client id: a request header v1."""
_NOT_SIZE: Final = 4
Buffer = bytes | bytearray | memoryview
OnAnswer = Callable[[bytes, int], None]


class BrokenConnection(ConnectionError):
    """The broker's bytes are no answers to what was asked: the text says why."""


class BrokerConnection(asyncio.Protocol):
    """Made by `open`; ends once: by `abort`, by the broker, by a wrong answer, or by none in time."""

    def __init__(self, address: str) -> None:
        self.address = address
        """``host:port``"""
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._on_lost: Callable[[BrokerConnection, Exception | None], None] | None = None
        self._transport: Any = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._reason: Exception | None = None
        self._versions: BrokerVersionData | None = None
        self._correlation = 0
        # what was written, in order: when, and who takes the answer
        self._waiting: deque[tuple[float, OnAnswer]] = deque()
        self._asked: set[asyncio.Future[ApiMessage]] = set()
        self._watch: asyncio.TimerHandle | None = None
        # a frame of which a part has come
        self._chunks: list[bytes] = []
        self._held, self._needed = 0, 0
        # while it authenticates again: what waits to be written, and who waits for the last answer
        self._paused: list[tuple[int, int, Sequence[Buffer], OnAnswer]] | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._renewal: asyncio.TimerHandle | asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Settings,
        host: str,
        port: int,
        on_lost: Callable[[BrokerConnection, Exception | None], None],
        ip: str = "",
    ) -> BrokerConnection:
        """A connection that may send. `on_lost` is called once when it has ended, with the reason (None:
        `abort`). `ip`: which address of `host`; "": those that it has, one after the other.

        Errors: OSError (a time-out is one), EOFError; `IncompatibleBrokerVersion`; `KafkaSecurityError` for
        what an operator must mend.
        """
        address = f"{host}:{port}"
        try:
            return await _opened(cls(address), settings, host, port, on_lost, ip)
        except ssl.SSLError as error:
            raise security.of_ssl(error, address, settings) from None
        except (EOFError, ConnectionResetError, ConnectionAbortedError, BrokenConnection):
            if found := await diagnosed(settings, host, port):
                raise found from None
            raise

    @property
    def in_flight(self) -> int:
        """Requests that wait for their answers."""
        return len(self._waiting) + (len(self._paused) if self._paused else 0)

    def send(
        self, api_key: int, api_version: int, parts: Sequence[Buffer], on_answer: OnAnswer
    ) -> None:
        """Writes one request. `parts`: its body, of a version before the flexible ones (request header v1);
        they must not change afterwards.

        `on_answer` gets the answer's frame, and where in it the body begins, behind size and response
        header v0. Where it raises, the connection ends. Errors: `BrokenConnection` where it has ended.
        """
        if self.closed:
            raise BrokenConnection("the connection has ended")
        if self._paused is not None:
            self._paused.append((api_key, api_version, parts, on_answer))
        else:
            self._write(api_key, api_version, parts, on_answer)

    async def ask(self, request: ApiMessage) -> ApiMessage:
        """Sends a request of kafka-python's in the newest version that both sides know; gives the answer.

        Errors: OSError, EOFError where the connection ends first; `IncompatibleBrokerVersion` where the
        broker does not know the request.
        """
        while self._resumed is not None:
            await asyncio.shield(self._resumed)
        return await self.ask_now(request)

    async def ask_now(self, request: ApiMessage) -> ApiMessage:
        """As `ask`, also while requests wait for SASL."""
        if self.closed:
            raise BrokenConnection("the connection has ended")
        if request.API_VERSION is None:
            if self._versions is None:
                raise IncompatibleBrokerVersion("asked before ApiVersions")
            request.API_VERSION = self._versions.api_version(request)
        request.with_header(self._correlation, CLIENT_ID.decode())
        answered: asyncio.Future[ApiMessage] = self._loop.create_future()

        def take(frame: bytes, offset: int) -> None:
            kind = request.header.get_response_class()
            answer = kind.decode(memoryview(frame)[offset - 4 :], header=True)
            if not answered.done():
                answered.set_result(answer)

        self._written([request.encode(header=True, framed=True)], take)
        self._asked.add(answered)
        try:
            return await answered
        finally:
            self._asked.discard(answered)

    def knows(self, request: type[ApiMessage]) -> bool:
        """Whether the broker and kafka-python have a version of a request in common."""
        try:
            return self._versions is not None and self._versions.api_version(request) >= 0
        except IncompatibleBrokerVersion:
            return False

    def abort(self) -> None:
        """Ends it at once: no callback comes any more but `on_lost`."""
        self._lose(None)

    async def wait_closed(self) -> None:
        """Returns once it has ended."""
        await asyncio.shield(self._lost)

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        if self.closed:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data = b"".join(self._chunks)
            self._chunks, self._held = [], 0
        try:
            self._take_frames(data)
        except BrokenConnection as error:
            self._lose(error)
        except Exception as error:  # of kafka-python's parsers, or of a callback
            self._lose(BrokenConnection(f"an answer that cannot be read ({type(error).__name__})"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._reason = error or EOFError("the broker ended the connection")
        if self._watch is not None:
            self._watch.cancel()
        self._waiting.clear()
        self._paused = None
        reason, renewal = self._reason, self._renewal
        for future in (*self._asked, self._resumed, self._drained):
            if future is not None and not future.done():
                future.set_exception(reason or BrokenConnection("the connection was ended"))
                future.exception()  # whoever waits gets it; nobody need
        if isinstance(renewal, asyncio.Task) and not renewal.done():
            # a refusal that came with the end is read, and not yet looked at: it is the reason
            renewal.add_done_callback(lambda _: self._report_lost())
            return
        if renewal is not None:
            renewal.cancel()
        self._report_lost()

    def _report_lost(self) -> None:
        if not self._lost.done():
            self._lost.set_result(None)
        if (on_lost := self._on_lost) is not None:
            self._on_lost = None
            on_lost(self, self._reason)

    # frames

    def _write(
        self, api_key: int, api_version: int, parts: Sequence[Buffer], on_answer: OnAnswer
    ) -> None:
        size = _HEADER.size - _NOT_SIZE + sum(map(len, parts))
        header = _HEADER.pack(
            size, api_key, api_version, self._correlation, len(CLIENT_ID), CLIENT_ID
        )
        self._written([header, *parts], on_answer)

    def _written(self, frame: list[Buffer], on_answer: OnAnswer) -> None:
        now = self._loop.time()
        self._waiting.append((now, on_answer))
        self._correlation = (self._correlation + 1) % _CORRELATIONS
        if self._watch is None:
            self._watch = self._loop.call_at(now + ANSWER_SECONDS, self._look)
        self._transport.write(b"".join(frame))  # of parts, TLS would make a record each

    def _take_frames(self, data: bytes) -> None:
        """Hands out each whole frame of `data`, and keeps the rest. Errors: `BrokenConnection`."""
        start, end = 0, len(data)
        while end - start >= 4:
            size = int.from_bytes(data[start : start + 4], "big", signed=True)
            if not 4 <= size <= MAX_ANSWER_BYTES:
                raise BrokenConnection(f"an answer of {size} bytes")
            stop = start + 4 + size
            if stop > end:
                self._needed = stop - start
                break
            self._answered(data if end == size + 4 else data[start:stop])
            if self.closed:
                return
            start = stop
        else:
            self._needed = 4
        if start < end:
            self._chunks, self._held = [data[start:] if start else data], end - start

    def _answered(self, frame: bytes) -> None:
        waiting = self._waiting
        correlation = int.from_bytes(frame[4:8], "big", signed=True)
        if not waiting or correlation != (self._correlation - len(waiting)) % _CORRELATIONS:
            raise BrokenConnection("an answer that was not asked for, or out of order")
        _, on_answer = waiting.popleft()
        on_answer(frame, 8)
        if not waiting and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _look(self) -> None:
        """Ends the connection where the oldest request has waited too long."""
        self._watch = None
        if not self._waiting:
            return
        until = self._waiting[0][0] + ANSWER_SECONDS
        if until <= self._loop.time():
            self._lose(TimeoutError(f"no answer within {ANSWER_SECONDS:g} s"))
        else:
            self._watch = self._loop.call_at(until, self._look)

    def _lose(self, reason: Exception | None) -> None:
        if self.closed:
            return
        self.closed, self._reason = True, reason
        if self._transport is not None:
            self._transport.abort()

    # opening, and SASL (KIP-368: what is authenticated is so for a while only)

    async def _begin(self, settings: Settings) -> None:
        """ApiVersions and SASL. Errors: as `open`'s."""
        await self._ask_versions()
        if security.uses_sasl(settings):
            await self._authenticate(settings)
        else:  # a listener of SASL, which answers ApiVersions to anybody, ends the connection
            await self.ask_now(MetadataRequest(topics=[]))

    async def _ask_versions(self) -> None:
        # version 0 is answered by every broker, and before SASL
        answer = await self.ask_now(ApiVersionsRequest(version=0))
        known = {it.api_key: (it.min_version, it.max_version) for it in answer.api_keys}
        self._versions = BrokerVersionData(api_versions=known)

    async def _authenticate(self, settings: Settings) -> None:
        seconds = await authentication.authenticate(self, settings)
        if seconds is not None:
            self._renewal = self._loop.call_later(seconds, self._renew, settings)

    def _renew(self, settings: Settings) -> None:
        self._renewal = self._loop.create_task(self._authenticate_again(settings))

    async def _authenticate_again(self, settings: Settings) -> None:
        """Authenticates between two requests: those in flight are answered first, new ones wait."""
        self._paused, self._resumed = [], self._loop.create_future()
        try:
            if self._waiting:
                self._drained = self._loop.create_future()
                await self._drained
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._authenticate(settings)
        except Exception as error:
            if isinstance(error, KafkaSecurityError) and self._reason is not None:
                self._reason = error
            self._lose(error)
            return
        if self.closed:
            return
        paused, resumed = self._paused, self._resumed
        self._paused = self._resumed = self._drained = None
        for request in paused:
            self._write(*request)
        resumed.set_result(None)


async def _opened(
    made: BrokerConnection,
    settings: Settings,
    host: str,
    port: int,
    on_lost: Callable[[BrokerConnection, Exception | None], None],
    ip: str,
) -> BrokerConnection:
    context = security.ssl_context(settings) if security.uses_ssl(settings) else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await _connect(made, host, port, context, ip)
            await made._begin(settings)
        if made.closed:
            raise made._reason or EOFError("the broker ended the connection")
    except BaseException:
        made.abort()
        raise
    made._on_lost = on_lost
    return made


async def _connect(
    made: BrokerConnection, host: str, port: int, context: ssl.SSLContext | None, ip: str = ""
) -> None:
    """Errors: OSError, also for TLS."""
    # asyncio and uvloop set TCP_NODELAY
    await asyncio.get_running_loop().create_connection(
        lambda: made,
        ip or host.strip("[]"),
        port,
        ssl=context,
        server_hostname=host.strip("[]").rstrip(".") if context else None,
    )


async def diagnosed(settings: Settings, host: str, port: int) -> KafkaSecurityError | None:
    """Whether a listener that ends our connections speaks otherwise than `settings` say; None: it does not
    show."""
    address, is_ssl = f"{host}:{port}", security.uses_ssl(settings)
    context = security.ssl_context(settings) if is_ssl else None
    try:
        async with asyncio.timeout(DIAGNOSE_SECONDS):
            if not security.uses_sasl(settings) and await _has_sasl(host, port, context):
                return security.wants_sasl(address)
            if is_ssl and await _answers_in_the_clear(host, port):
                return security.speaks_plaintext(address)
            if not is_ssl and await _shakes_hands(host, port):
                return security.speaks_ssl(address)
    except TimeoutError:
        pass
    return None


async def _has_sasl(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    made = BrokerConnection(f"{host}:{port}")
    try:
        await _connect(made, host, port, context)
        await made._ask_versions()
        if not made.knows(SaslHandshakeRequest):
            return False
        answer = await made.ask_now(SaslHandshakeRequest(mechanism="PLAIN"))
        return answer.error_code in (0, UnsupportedSaslMechanismError.errno)
    except (OSError, EOFError):
        return False
    finally:
        made.abort()


async def _answers_in_the_clear(host: str, port: int) -> bool:
    made = BrokerConnection(f"{host}:{port}")
    try:
        await _connect(made, host, port, None)
        await made._ask_versions()
    except (OSError, EOFError):
        return False
    finally:
        made.abort()
    return True


async def _shakes_hands(host: str, port: int) -> bool:
    """Whether a server of TLS is there, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    made = BrokerConnection(f"{host}:{port}")
    try:
        await _connect(made, host, port, context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it wants a certificate of ours, or an older TLS
    except (OSError, EOFError):
        return False
    finally:
        made.abort()
    return True
