"""A small HTTP/1.1 client for one event loop: keep-alive connections, bodies with a length.

Measured beside a general one it costs a tenth of the CPU a request; on a machine that also runs
what is measured, the client's own work is part of every figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

SECONDS: Final = 30.0
"""How long one request may take."""
_LARGEST_HEAD: Final = 1 << 16


class Broken(ConnectionError):
    """No answer: the connection could not be made, broke, or took too long."""


class _Problem(msgspec.Struct):
    code: str = ""


class Answer(NamedTuple):
    """`began`: just before the first byte left; `ended`: after the last one came (perf_counter)."""

    status: int
    body: bytes
    began: float
    ended: float

    @property
    def ms(self) -> float:
        return (self.ended - self.began) * 1000

    @property
    def problem(self) -> str:
        """Status and code of a problem (API.md), for people."""
        try:
            code = msgspec.json.decode(self.body, type=_Problem).code
        except msgspec.DecodeError:
            code = ""
        return f"{self.status} {code}".strip()

    def json(self) -> Any:
        """Errors: `msgspec.DecodeError`."""
        return msgspec.json.decode(self.body)


_Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    """At most `connections` requests at once; the others wait for their turn.

    A request whose kept connection turns out to be gone is sent again on a new one: posts should
    carry ids that make them count once.
    """

    def __init__(self, url: str, token: str = "", connections: int = 32) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._fixed = f"Host: {parts.netloc}\r\n{authorization}".encode()
        # first in, first out: every connection is used, so every worker behind the address is
        self._free: asyncio.Queue[_Pair | None] = asyncio.Queue()
        for _ in range(connections):
            self._free.put_nowait(None)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        while not self._free.empty():
            if pair := self._free.get_nowait():
                pair[1].close()

    async def get(self, target: str) -> Answer:
        """Errors: `Broken`."""
        return await self._request(b"GET %s HTTP/1.1\r\n" % target.encode(), b"")

    async def post(self, target: str, value: object) -> Answer:
        """Posts `value` as JSON. Errors: `Broken`."""
        return await self._send(b"POST", target, value)

    async def put(self, target: str, value: object) -> Answer:
        """Puts `value` as JSON. Errors: `Broken`."""
        return await self._send(b"PUT", target, value)

    async def _send(self, method: bytes, target: str, value: object) -> Answer:
        body = msgspec.json.encode(value)
        head = b"%s %s HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        return await self._request(head % (method, target.encode(), len(body)), body)

    async def _request(self, head: bytes, body: bytes) -> Answer:
        pair, kept = await self._free.get(), None
        data = head + self._fixed + b"\r\n" + body
        try:
            async with asyncio.timeout(SECONDS):
                if pair:
                    with contextlib.suppress(OSError, EOFError):  # it lay idle and was ended
                        answer, kept = await _ask(pair, data)
                        return answer
                    pair[1].close()
                pair = await asyncio.open_connection(self._host, self._port, limit=_LARGEST_HEAD)
                answer, kept = await _ask(pair, data)
                return answer
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise Broken(type(error).__name__) from None
        finally:
            if pair and not kept:
                pair[1].close()
            self._free.put_nowait(kept)


async def _ask(pair: _Pair, data: bytes) -> tuple[Answer, _Pair | None]:
    """The answer, and the connection if it stays."""
    reader, writer = pair
    began = time.perf_counter()
    writer.write(data)
    status, length, stays = _head(await reader.readuntil(b"\r\n\r\n"))
    body = await reader.readexactly(length)
    return Answer(status, body, began, time.perf_counter()), pair if stays else None


def _head(data: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the connection stays. Errors: ValueError."""
    first, *lines = data.split(b"\r\n")
    length, stays = 0, True
    for line in lines:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"content-length":
                length = int(value)
            case b"connection":
                stays = value.strip().lower() != b"close"
            case b"transfer-encoding":
                raise ValueError("a body without a length")
    return int(first.split(b" ", 2)[1]), length, stays
