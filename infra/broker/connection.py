"""One client's connection: its requests are answered one after the other, in their order."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import traceback
from typing import Any, Final, Protocol

from kafka.protocol.metadata import ApiVersionsRequest

from infra.broker.apis import APIS, PACKED, versions
from infra.broker.codes import REQUESTS_LOG, Code
from infra.broker.handlers.missing import CONSUMER_GROUP_HEARTBEAT, refused_heartbeat
from infra.broker.node import Broker
from infra.broker.wire import (
    KEY_BYTES,
    PREFIX_BYTES,
    Call,
    Malformed,
    RequestHeader,
    decode,
    encode,
    frame_size,
    request_header,
)

READ_BUFFER_BYTES: Final = 1 << 20
"""Bytes of requests that wait for an answer or for a peer that reads none; the socket is not read beyond."""


class Listening(Protocol):
    """The part of a server that its connections need."""

    broker: Broker
    connections: set[ClientConnection]

    def advertised_to(self, local: str) -> tuple[str, int]: ...


class ClientConnection(asyncio.Protocol):
    """Answers a request within the call that brought its last byte, where its handler does not wait."""

    def __init__(self, server: Listening) -> None:
        self._server, self._broker = server, server.broker
        self._unread = bytearray()
        self._needed = PREFIX_BYTES
        self._task: asyncio.Task[None] | None = None
        self._reading = self._writable = True
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self._transport: Any = transport
        self._server.connections.add(self)
        _set_socket_options(transport.get_extra_info("socket"))
        self._peer = f"/{transport.get_extra_info('peername')[0]}"
        local = str(transport.get_extra_info("sockname")[0])
        self._advertised = self._server.advertised_to(local)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if self._task is None and self._writable:
            self._proceed()
        elif len(self._unread) > READ_BUFFER_BYTES and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._server.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._task is None:
            self._proceed()

    def abort(self) -> None:
        """Closes at once: the broker stops, and the peer may not be reading."""
        self._transport.abort()

    def _proceed(self) -> None:
        """Answers the whole requests that are here, up to one that has to wait."""
        try:
            while self._writable and not self.closed and len(self._unread) >= self._needed:
                frame = self._next_frame()
                if frame is None:
                    continue
                answer = self._answer_now(frame)
                if answer is None:
                    return  # `_waited` goes on
                if answer:
                    self._transport.write(answer)
        except Malformed:
            self._close()  # the peer is no Kafka client
            return
        except Exception as error:
            self._fail(error)
            return
        if not self._reading and self._writable and not self.closed:
            self._reading = True
            self._transport.resume_reading()

    def _next_frame(self) -> bytes | None:
        """The next request without its length; None where it is not whole. Errors: `Malformed`."""
        unread = self._unread
        size = PREFIX_BYTES + frame_size(unread)
        if len(unread) < size:
            # first as far as the key of its API, which bounds it
            self._needed = max(
                PREFIX_BYTES + KEY_BYTES, size if len(unread) > PREFIX_BYTES + 1 else 0
            )
            return None
        frame = bytes(memoryview(unread)[PREFIX_BYTES:size])
        del unread[:size]
        self._needed = PREFIX_BYTES
        return frame

    def _answer_now(self, frame: bytes) -> bytes | None:
        """The framed answer; b"" where none is sent, None where a task sends it."""
        header = request_header(frame)
        packed = PACKED.get((header.api, header.version))
        if packed is not None:
            answer = packed(self._broker, frame, header)
            if isinstance(answer, bytes):
                return answer
            self._task = asyncio.ensure_future(self._send(answer))
            return None
        api = APIS.get(header.api)
        if header.api == CONSUMER_GROUP_HEARTBEAT:
            return refused_heartbeat(header.correlation)
        if api is None:
            raise Malformed("unknown API")
        if not api.min_version <= header.version <= api.max_version:
            if api.codec is not ApiVersionsRequest:
                raise Malformed("unsupported version")
            return encode(versions(Code.UNSUPPORTED_VERSION), header.correlation, 0)
        call = Call(
            decode(api.codec, header, frame),
            header.version,
            header.client,
            self._peer,
            self._advertised,
        )
        self._task = asyncio.ensure_future(self._send(self._handled(header, api, call)))
        return None

    async def _handled(self, header: RequestHeader, api: Any, call: Call) -> bytes:
        response = await api.handle(self._broker, call)
        return b"" if response is None else encode(response, header.correlation, header.version)

    async def _send(self, answering: Any) -> None:
        try:
            answer = await answering
        except Malformed:
            self._close()
            return
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._fail(error)
            return
        if answer and not self.closed:
            self._transport.write(answer)
        self._task = None
        self._proceed()

    def _close(self) -> None:
        self.closed = True
        self._transport.close()

    def _fail(self, error: Exception) -> None:
        """A request must not end the others; a text may hold payload."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        name = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        REQUESTS_LOG.error(
            "%s at %s; connection closed", type(error).__name__, name, extra={"pace": name}
        )
        self._close()


def _set_socket_options(peer: socket.socket) -> None:
    """Sends answers at once, and notices within two minutes that a silent peer is gone."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
