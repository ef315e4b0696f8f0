"""A connection to one broker that one thread uses: TLS, SASL, one request at a time.

`ask` waits for its answer. `send` does not: `receive` gives the answer once all of it has come.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import Any, Final

from kafka.errors import IncompatibleBrokerVersion
from kafka.protocol.api_message import ApiMessage
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest

from infra.kafka import security
from infra.kafka.authentication import Authenticated, Exchange
from infra.kafka.connection import (
    ANSWER_SECONDS,
    CLIENT_ID,
    CONNECT_SECONDS,
    MAX_ANSWER_BYTES,
    BrokenConnection,
    diagnosed,
)
from infra.settings import Settings

SEND_SECONDS: Final = 0.1
"""For the system to take a request: it takes at once what a broker that reads leaves room for."""
CHUNK_BYTES: Final = 1 << 16
"""Of a read while it is not known how long the answer is."""
_CORRELATIONS: Final = 1 << 31
_SIZE: Final = struct.Struct(">i")
_HEADER: Final = struct.Struct(f">ihhih{len(CLIENT_ID)}sB")
"""Size, key, version, correlation, client id, no tags: a request header v2."""
_PREFIX: Final = 8
"""Size and correlation, before the body of an answer or the tags of its header."""
_HUNG_UP: Final = (
    EOFError,
    ssl.SSLEOFError,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
)
Frame = bytes | bytearray


class BlockingConnection:
    """Made by `open_connection`. After an error of any method it is of no use, and is closed by its owner."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        """``host:port``"""
        self.expires_at = float("inf")
        """Until when the broker takes requests (KIP-368), by `time.monotonic`, in s."""
        self.is_waiting = False
        """A request was sent whose answer has not come."""
        self.heard_at = 0.0
        """When something was sent or came last, by `time.monotonic`, in s."""
        self._socket = sock
        self._versions: BrokerVersionData | None = None
        self._correlation = 0
        self._frame: Frame = b""
        """What has come of an answer; once its size is known, with room for all of it."""
        self._filled = 0
        self._max_bytes = MAX_ANSWER_BYTES

    def fileno(self) -> int:
        return self._socket.fileno()

    def knows(self, request: type[ApiMessage], version: int | None = None) -> bool:
        """Whether the broker and kafka-python have a version of a request in common, or this one."""
        if self._versions is None:
            return False
        if version is not None:
            low, high = self._versions.api_versions.get(request.API_KEY, (0, -1))
            return bool(low <= version <= high)
        try:
            return bool(self._versions.api_version(request) >= 0)
        except IncompatibleBrokerVersion:
            return False

    def ask(self, request: ApiMessage, seconds: float = ANSWER_SECONDS) -> Any:
        """Sends a request of kafka-python's in the newest version that both sides know; gives the answer.

        Errors: OSError (no answer in time is one), EOFError; `IncompatibleBrokerVersion` where the broker
        does not know the request.
        """
        if request.API_VERSION is None:
            if self._versions is None:
                raise IncompatibleBrokerVersion("asked before ApiVersions")
            request.API_VERSION = self._versions.api_version(request)
        request.with_header(self._correlation, CLIENT_ID.decode())
        self._send(request.encode(header=True, framed=True), MAX_ANSWER_BYTES)
        until = time.monotonic() + seconds
        while (frame := self.receive()) is None:
            if not self._readable(until - time.monotonic()):
                raise TimeoutError(f"no answer within {seconds:g} s")
        try:
            kind = request.header.get_response_class()
            return kind.decode(memoryview(frame)[4:], header=True)
        except Exception as error:  # of kafka-python's parsers
            raise BrokenConnection(
                f"an answer that cannot be read ({type(error).__name__})"
            ) from None

    def send(self, api_key: int, api_version: int, body: bytes, max_bytes: int) -> None:
        """Sends a request with `body`, of a flexible version (request header v2).

        `max_bytes`: of its answer. Errors: OSError.
        """
        size = _HEADER.size - _SIZE.size + len(body)
        key = (size, api_key, api_version, self._correlation, len(CLIENT_ID), CLIENT_ID, 0)
        self._send(_HEADER.pack(*key) + body, max_bytes)

    def receive(self) -> Frame | None:
        """The answer, behind its size and correlation from byte 8 on; None where it has not come whole.

        Errors: EOFError where the broker ended the connection, OSError.
        """
        while True:
            try:
                whole = self._read()
            except (BlockingIOError, ssl.SSLWantReadError):
                return None
            if whole:
                return self._answer()

    def close(self) -> None:
        self._socket.close()

    def _send(self, frame: bytes, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._correlation = (self._correlation + 1) % _CORRELATIONS
        sent = 0
        if self._socket.gettimeout() == 0:  # nearly always it takes all at once
            with suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                sent = self._socket.send(frame)
        if sent < len(frame):
            self._socket.settimeout(SEND_SECONDS)
            self._socket.sendall(frame[sent:])
            self._socket.setblocking(False)
        self.is_waiting, self.heard_at = True, time.monotonic()

    def _read(self) -> bool:
        """Reads what there is; whether the answer is whole."""
        if isinstance(self._frame, bytearray):
            count = self._socket.recv_into(memoryview(self._frame)[self._filled :])
        else:
            read = self._socket.recv(CHUNK_BYTES)
            count = len(read)
            self._frame += read
        if not count:
            raise EOFError("the broker ended the connection")
        self.heard_at = time.monotonic()
        self._filled += count
        return self._filled >= _SIZE.size and self._filled == self._sized()

    def _sized(self) -> int:
        """Bytes of the answer and its size; makes room for it. Errors: `BrokenConnection`."""
        (size,) = _SIZE.unpack_from(self._frame)
        if not _PREFIX - _SIZE.size <= size <= self._max_bytes:
            raise BrokenConnection(f"an answer of {size} bytes")
        whole = _SIZE.size + int(size)
        if self._filled > whole or not self.is_waiting:
            raise BrokenConnection("an answer that was not asked for")
        if self._filled < whole and isinstance(self._frame, bytes):
            # pages that nothing is written to take no memory
            room = bytearray(whole)
            room[: self._filled] = self._frame
            self._frame = room
        return whole

    def _answer(self) -> Frame:
        frame, self._frame, self._filled = self._frame, b"", 0
        correlation = int.from_bytes(frame[4:8], "big", signed=True)
        if correlation != (self._correlation - 1) % _CORRELATIONS:
            raise BrokenConnection("an answer that was not asked for, or out of order")
        self.is_waiting = False
        return frame

    def _readable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0, int(1000 * seconds))))

    # opening

    def _begin(self, settings: Settings) -> None:
        """ApiVersions and SASL. Errors: as `open_connection`'s."""
        # version 0 is answered by every broker, and before SASL
        answer = self.ask(ApiVersionsRequest(version=0), CONNECT_SECONDS)
        known = {it.api_key: (it.min_version, it.max_version) for it in answer.api_keys}
        self._versions = BrokerVersionData(api_versions=known)
        if not security.uses_sasl(settings):
            # a listener of SASL, which answers ApiVersions to anybody, ends the connection
            self.ask(MetadataRequest(topics=[]), CONNECT_SECONDS)
            return
        exchange = Exchange(self, settings)
        step = exchange.advance()
        while not isinstance(step, Authenticated):
            step = exchange.advance(self.ask(step, CONNECT_SECONDS))
        if step.again_seconds is not None:
            self.expires_at = time.monotonic() + step.again_seconds


def open_connection(settings: Settings, host: str, port: int) -> BlockingConnection:
    """A connection that may ask. It waits, so no loop runs in the caller's thread.

    Errors: OSError (a time-out is one), EOFError; `IncompatibleBrokerVersion`; `KafkaSecurityError` for what
    an operator must mend.
    """
    address = f"{host}:{port}"
    try:
        return _opened(settings, host.strip("[]"), port, address)
    except (*_HUNG_UP, BrokenConnection):
        if found := asyncio.run(diagnosed(settings, host, port)):
            raise found from None
        raise
    except ssl.SSLError as error:
        raise security.of_ssl(error, address, settings) from None


def _opened(settings: Settings, host: str, port: int, address: str) -> BlockingConnection:
    sock = socket.create_connection((host, port), CONNECT_SECONDS)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if security.uses_ssl(settings):
            context = security.ssl_context(settings)
            sock = context.wrap_socket(sock, server_hostname=host.rstrip("."))
        made = BlockingConnection(sock, address)
        made._begin(settings)
    except BaseException:
        sock.close()
        raise
    return made
