"""HTTP/1.1 as clients of the API speak it: where to, by whom, and kept connections for one event loop.

Measured beside a general client it costs a tenth of the CPU a request; on a machine that also runs
what is measured, the client's own work is part of every figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, NamedTuple
from urllib.parse import urlsplit

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
REQUEST_SECONDS: Final = 30.0
"""How long one request may take."""
_MAX_HEAD_BYTES: Final = 1 << 16


class Broken(ConnectionError):
    """No answer: the connection could not be made, broke, or took too long."""


class Address(NamedTuple):
    """Where a URL leads. `authority`: host and port as the URL has them, without a password in it."""

    tls: bool
    host: str
    port: int
    authority: str


def address(url: str) -> Address:
    """
    >>> address("https://me:secret@api.example:444/v1")
    Address(tls=True, host='api.example', port=444, authority='api.example:444')
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    authority = parts.netloc.rpartition("@")[2]
    return Address(tls, parts.hostname or "127.0.0.1", port, authority)


def authorization(token: str) -> dict[str, str]:
    """The headers that say who asks; none without a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


class Response(NamedTuple):
    """`began`: just before the first byte left; `ended`: after the last one came (perf_counter)."""

    status: int
    body: bytes
    began: float
    ended: float


_Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pool:
    """At most `connections` requests at once; the others wait for their turn.

    A request whose kept connection turns out to be gone is sent again on a new one: posts should
    carry ids that make them count once.
    """

    def __init__(self, url: str, token: str = "", connections: int = 32) -> None:
        self._address = address(url)
        headers = {"Host": self._address.authority, **authorization(token)}
        fixed = [f"{name}: {value}\r\n" for name, value in headers.items()]
        self._fixed = "".join([*fixed, "\r\n"]).encode()
        # first in, first out: every connection is used, so every worker behind the address is
        self._free: asyncio.Queue[_Pair | None] = asyncio.Queue()
        for _ in range(connections):
            self._free.put_nowait(None)

    def close(self) -> None:
        """Of connections that are in use, nothing."""
        while not self._free.empty():
            if pair := self._free.get_nowait():
                pair[1].close()

    async def request(self, method: str, target: str, body: bytes = b"") -> Response:
        """`body` is JSON; none goes without a length but a GET's. Errors: `Broken`."""
        head = f"{method} {target} HTTP/1.1\r\n"
        if method != "GET":
            head += f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        data = head.encode() + self._fixed + body
        pair, kept = await self._free.get(), None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if pair:
                    with contextlib.suppress(OSError, EOFError):  # it lay idle and was ended
                        answer, kept = await _ask(pair, data)
                        return answer
                    pair[1].close()
                pair = await self._connect()
                answer, kept = await _ask(pair, data)
                return answer
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise Broken(type(error).__name__) from None
        finally:
            if pair and not kept:
                pair[1].close()
            self._free.put_nowait(kept)

    async def _connect(self) -> _Pair:
        to = self._address
        return await asyncio.open_connection(
            to.host, to.port, limit=_MAX_HEAD_BYTES, ssl=True if to.tls else None
        )


async def _ask(pair: _Pair, data: bytes) -> tuple[Response, _Pair | None]:
    """The answer, and the connection if it stays."""
    reader, writer = pair
    began = time.perf_counter()
    writer.write(data)
    status, length, stays = _head(await reader.readuntil(b"\r\n\r\n"))
    body = await (_chunks(reader) if length is None else reader.readexactly(length))
    return Response(status, body, began, time.perf_counter()), pair if stays else None


def _head(data: bytes) -> tuple[int, int | None, bool]:
    """Status, length of the body (None: it comes in chunks), and whether the connection stays.

    Errors: ValueError.
    """
    first, *lines = data.split(b"\r\n")
    length: int | None = 0
    stays = True
    for line in lines:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"content-length":
                length = int(value)
            case b"connection":
                stays = value.strip().lower() != b"close"
            case b"transfer-encoding":  # chunked is the only one left (RFC 9112, 7)
                length = None
    return int(first.split(b" ", 2)[1]), length, stays


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks (RFC 9112, 7.1), as a proxy may send it. Errors: ValueError, EOFError."""
    chunks = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(chunks)
