"""MGETs and a few more commands by callbacks on one connection: what reads ask of the store, often a little.

The connection is redis-py's, which sets it up: its socket, TLS, authentication and database are those of any
other command. Then its transport is ours: an MGET of redis-py takes some 150 µs of the event loop, these 25.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import redis

from infra.store.pipeline import packed
from infra.store.redis_client import Client

MAX_TRIES: Final = 2
"""Of an MGET whose connection is lost: one dies with a restart of Redis."""
LookupCallback = Callable[[list[Any] | Exception], None]
"""Called once with the values in the order of the keys, or with why there are none; raises nothing."""
AnswersCallback = Callable[[list[Any] | Exception], None]
"""The same of several commands: with a reply of each, or with why there are none."""


class _Asked:
    """Commands that are sent together, until they are answered. `timer` says that they take
    too long."""

    __slots__ = ("commands", "done", "replies", "request", "timer", "tries")

    def __init__(self, request: bytes, commands: int, done: AnswersCallback) -> None:
        self.request, self.done, self.tries = request, done, 0
        self.commands, self.replies = commands, list[Any]()
        self.timer: asyncio.TimerHandle | None = None

    def answer(self, reply: Any) -> None:
        timer, self.timer = self.timer, None
        if timer is not None:  # else it is answered
            timer.cancel()
            self.done(reply)


class _Replies(asyncio.Protocol):
    """Answers what was `asked` on a transport, in its order. `before`: the protocol of the transport so far,
    which hears of the connection's end."""

    def __init__(self, before: asyncio.BaseProtocol, lost: Callable[[deque[_Asked]], None]) -> None:
        self._before, self._lost = before, lost
        self.asked: deque[_Asked] = deque()
        self._reader = hiredis.Reader(
            protocolError=redis.InvalidResponse, replyError=redis.ResponseError
        )

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self.asked and (reply := self._reader.gets()) is not False:
            first = self.asked[0]
            first.replies.append(reply)
            if len(first.replies) == first.commands:
                self.asked.popleft().answer(first.replies)

    def connection_lost(self, error: Exception | None) -> None:
        self._before.connection_lost(error)
        self._lost(self.asked)


class Lookups:
    """MGETs of `client`, which is of one server, on the event loop. What takes longer than `timeout_seconds`
    is answered with a TimeoutError, and its connection ended."""

    def __init__(self, client: Client, timeout_seconds: float) -> None:
        self._pool, self._timeout = client.connection_pool, timeout_seconds
        self._transport: Any = None
        self._replies: _Replies | None = None
        self._unsent: list[_Asked] = []
        self._connecting: asyncio.Task[None] | None = None
        self._connection: Any = None

    def mget(self, names: Sequence[bytes], done: LookupCallback) -> None:
        """Asks for the values of `names`, at least one. `done` is called in a later iteration of the loop."""
        self.ask(packed(b"MGET", *names), 1, lambda found: done(_first(found)))

    def ask(self, commands: bytes, count: int, done: AnswersCallback) -> None:
        """Sends `count` commands together. An error that Redis replies is in its place. `done` is called in a
        later iteration of the loop."""
        asked = _Asked(commands, count, done)
        asked.timer = asyncio.get_running_loop().call_later(self._timeout, self._late, asked)
        self._send(asked)

    def _send(self, asked: _Asked) -> None:
        replies = self._replies
        if replies is None or self._transport.is_closing():
            self._unsent.append(asked)
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        replies.asked.append(asked)
        try:
            self._transport.write(asked.request)
        except RuntimeError:  # of uvloop, for a connection that was reset a moment ago
            self._transport.abort()

    async def _connect(self) -> None:
        try:
            await self._release()
            self._connection = await self._pool.get_connection()
            transport = self._connection._writer.transport
            replies = _Replies(transport.get_protocol(), self._lose)
            transport.set_protocol(replies)
            self._transport, self._replies = transport, replies
        except Exception as error:  # none of those that wait may wait for ever
            unsent, self._unsent = self._unsent, []
            for asked in unsent:
                asked.answer(error)
        finally:
            self._connecting = None
        unsent, self._unsent = self._unsent, []
        for asked in unsent:
            self._send(asked)

    async def _release(self) -> None:
        """Gives the connection that was lost back to its pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _lose(self, asked: deque[_Asked]) -> None:
        self._replies = None
        for each in asked:
            each.tries += 1
            each.replies.clear()
            if each.timer is None:
                continue  # it is answered: it took too long
            if each.tries < MAX_TRIES:
                self._send(each)
            else:
                each.answer(redis.ConnectionError("the connection was closed"))

    def _late(self, asked: _Asked) -> None:
        asked.answer(TimeoutError("the store does not answer"))
        if self._replies is not None and asked in self._replies.asked:
            self._transport.abort()


def _first(found: list[Any] | Exception) -> list[Any] | Exception:
    return found if isinstance(found, Exception) else found[0]
