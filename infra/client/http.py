"""HTTP/1.1 for clients of the API: addresses, authorization, and keep-alive connections for one event loop.

It takes a tenth of a general client's CPU for a request. The benchmark needs that: on a machine that also
runs what is measured, the client's own work is in every figure.
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
    """The address in a URL. `authority`: host and port as the URL has them, without a user and password."""

    tls: bool
    host: str
    port: int
    authority: str


def address(url: str) -> Address:
    """The address in a URL; 127.0.0.1 and the scheme's port where it has none. Errors: ValueError.

    >>> address("https://me:secret@api.example:444/v1")
    Address(tls=True, host='api.example', port=444, authority='api.example:444')
    """
    split = urlsplit(url)
    tls = split.scheme == "https"
    port = split.port or (443 if tls else 80)
    authority = split.netloc.rpartition("@")[2]
    return Address(tls, split.hostname or "127.0.0.1", port, authority)


def authorization(token: str) -> dict[str, str]:
    """The header that carries the token; {} without a token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


class Response(NamedTuple):
    """A response and its times.

    `began`: just before the first byte was sent; `ended`: after the last byte came (`perf_counter`, s).
    """

    status: int
    body: bytes
    began: float
    ended: float


_Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pool:
    """Connections to one address: at most `connections` requests at once, further ones wait.

    A request whose keep-alive connection was closed meanwhile is sent again on a new one. So a post should
    carry ids that make it count once.
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
        """Closes the connections that are not in use."""
        while not self._free.empty():
            if pair := self._free.get_nowait():
                pair[1].close()

    async def request(self, method: str, target: str, body: bytes = b"") -> Response:
        """Sends a request, whose `body` is JSON. Errors: `Broken`."""
        head = f"{method} {target} HTTP/1.1\r\n"
        if method != "GET":
            head += f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        data = head.encode() + self._fixed + body
        pair, reusable = await self._free.get(), None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if pair:
                    with contextlib.suppress(
                        OSError, EOFError
                    ):  # the server closed it while it was idle
                        response, reusable = await _exchange(pair, data)
                        return response
                    pair[1].close()
                pair = await self._connect()
                response, reusable = await _exchange(pair, data)
                return response
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise Broken(type(error).__name__) from None
        finally:
            if pair and not reusable:
                pair[1].close()
            self._free.put_nowait(reusable)

    async def _connect(self) -> _Pair:
        to = self._address
        return await asyncio.open_connection(
            to.host, to.port, limit=_MAX_HEAD_BYTES, ssl=True if to.tls else None
        )


async def _exchange(pair: _Pair, data: bytes) -> tuple[Response, _Pair | None]:
    """The response, and the connection if the server keeps it open."""
    reader, writer = pair
    began = time.perf_counter()
    writer.write(data)
    status, length, stays_open = _head(await reader.readuntil(b"\r\n\r\n"))
    body = await (_chunks(reader) if length is None else reader.readexactly(length))
    return Response(status, body, began, time.perf_counter()), pair if stays_open else None


def _head(data: bytes) -> tuple[int, int | None, bool]:
    """Status, length of the body (None: it comes in chunks), and whether the connection stays open.

    Errors: ValueError.
    """
    first, *lines = data.split(b"\r\n")
    length: int | None = 0
    stays_open = True
    for line in lines:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"content-length":
                length = int(value)
            case b"connection":
                stays_open = value.strip().lower() != b"close"
            case b"transfer-encoding":  # chunked is the only coding that remains (RFC 9112, 7)
                length = None
    return int(first.split(b" ", 2)[1]), length, stays_open


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks (RFC 9112, 7.1), as a proxy may send it. Errors: ValueError, EOFError."""
    chunks = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(chunks)
