"""Commands in the bytes of Redis's protocol (RESP 2), and their round trips on one connection.

The connection is redis-py's: its socket, TLS, authentication, database, retries and parser stay what they
are for every other command. Only the packing is ours: a command of redis-py's pipeline costs some 20 µs.
Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser

from infra.store.redis_client import Client

SEND_BYTES: Final = 1 << 16
"""Pieces are joined to about this size before they are sent: larger buffers cost page faults."""
PIECE_STRINGS: Final = 64
"""Strings, or pairs of them, in a piece: those of rows are then near `SEND_BYTES`."""


def packed(*strings: bytes) -> bytes:
    """A whole command: its name and its arguments."""
    return head(len(strings)) + joined(strings)


def head(strings: int) -> bytes:
    """What comes before the `strings` of a command, its name among them."""
    return b"*%d\r\n" % strings


def joined(strings: Iterable[bytes]) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(it), it) for it in strings])


def joined_pairs(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(k), k, len(v), v) for k, v in pairs])


def in_pieces(strings: Sequence[bytes]) -> Iterator[bytes]:
    """Arguments of a command, piece by piece."""
    for at in range(0, len(strings), PIECE_STRINGS):
        yield joined(strings[at : at + PIECE_STRINGS])


def pairs_in_pieces(pairs: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Pairs of arguments of a command, piece by piece."""
    for at in range(0, len(pairs), PIECE_STRINGS):
        yield joined_pairs(pairs[at : at + PIECE_STRINGS])


class Pipeline:
    """One connection to one server. An error that Redis replies is returned in its place, not raised.

    Errors of all methods: redis-py's of a connection, which is closed then.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def begin(self, commands: bytes, count: int) -> list[Any]:
        """The `count` replies to the first commands, sent again where the connection was lost."""

        def exchange() -> list[Any]:
            self.send((commands,))
            return self.replies(count)

        connection = self._connection
        found: list[Any] = connection.retry.call_with_retry(
            exchange, lambda _: connection.disconnect()
        )
        return found

    def ask(self, *strings: bytes) -> Any:
        """The reply to one command."""
        self.send((packed(*strings),))
        return self.replies(1)[0]

    def send(self, pieces: Iterable[bytes]) -> None:
        """Sends commands, in pieces. Between this and `replies` nothing is read: replies must be short."""
        waiting, size = list[bytes](), 0
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= SEND_BYTES:
                self._send(waiting)
                waiting, size = [], 0
        if waiting:
            self._send(waiting)

    def _send(self, pieces: list[bytes]) -> None:
        # no health check: it would reconnect, and what follows a WATCH must not go to a connection without
        self._connection.send_packed_command([b"".join(pieces)], check_health=False)

    def replies(self, count: int) -> list[Any]:
        """The next `count` replies. Those that came with the one before are taken from hiredis's reader at
        once, where redis-py has one: of a reply, the call through redis-py costs four times its parsing."""
        found = list[Any]()
        while len(found) < count:
            found.append(self._reply())
            self._take_parsed(found, count)
        return found

    def _take_parsed(self, found: list[Any], count: int) -> None:
        parser = self._connection._parser
        if type(parser) is not _HiredisParser or self._connection.protocol not in (2, "2"):
            return
        while len(found) < count:
            reply = parser._reader.gets(False)
            if reply is NOT_ENOUGH_DATA:
                return
            first = reply[0] if type(reply) is list and reply else reply
            if isinstance(first, redis.ConnectionError):  # as redis-py: of a Redis that loads, say
                self._connection.disconnect()
                raise first
            found.append(reply)

    def _reply(self) -> Any:
        try:
            return self._connection.read_response(disable_decoding=True)
        except redis.ResponseError as error:
            return error


@contextmanager
def opened(server: Client) -> Iterator[Pipeline]:
    """A connection of the client of one server, from its pool. An error that ends the context closes it."""
    pool = server.connection_pool
    connection = pool.get_connection()
    try:
        yield Pipeline(connection)
    except BaseException:
        connection.disconnect()  # it may hold a WATCH, or replies that nobody read
        raise
    finally:
        pool.release(connection)
