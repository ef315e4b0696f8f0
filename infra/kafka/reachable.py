"""Whether a Kafka broker answers, and lets us in: by a connection as every other, with TLS and SASL."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from kafka.errors import IncompatibleBrokerVersion

from infra.kafka.connection import CONNECT_SECONDS, BrokerConnection
from infra.kafka.security import KafkaSecurityError
from infra.kafka_settings import MAX_PORT, broker_address
from infra.settings import Settings

NEXT_IP_SECONDS: Final = 0.25
"""After this long without an answer the next address of a name is asked, too (RFC 8305, section 5)."""
OnLost = Callable[[BrokerConnection, Exception | None], None]
_Opening = Callable[[], Awaitable[BrokerConnection]]


def addresses(servers: Sequence[str]) -> list[tuple[str, int]]:
    """Host and port of each of ``host:port``."""
    return [broker_address(server.strip()) for server in servers]


async def is_reachable(settings: Settings, servers: Sequence[str] = ()) -> bool:
    """Whether one of the brokers answers, within a time bounded as `BrokerConnection.open` is. `servers`:
    ``host:port`` of each; those of `settings` where there is none.

    Errors: `KafkaSecurityError` where none does, and one refuses us for what no waiting mends.
    """
    try:
        (await open_any(settings, servers)).abort()
    except (OSError, EOFError, IncompatibleBrokerVersion):  # a time-out is an OSError
        return False
    return True


async def open_any(
    settings: Settings, servers: Sequence[str] = (), on_lost: OnLost = lambda *_: None
) -> BrokerConnection:
    """A connection to the first broker that answers; all are asked at once, and one whose name has several
    addresses at each of them. `servers`: as `is_reachable`'s.

    Errors: as `BrokerConnection.open`'s, `KafkaSecurityError` before others.
    """
    servers = servers or settings.kafka_bootstrap.split(",")
    openings: list[_Opening] = [
        partial(_open_named, settings, host, port, on_lost) for host, port in addresses(servers)
    ]
    return await _first(openings, 0)


async def _open_named(
    settings: Settings, host: str, port: int, on_lost: OnLost
) -> BrokerConnection:
    """Errors: as `open_any`'s."""
    openings: list[_Opening] = [
        partial(BrokerConnection.open, settings, host, port, on_lost, ip)
        for ip in await _ips(host, port)
    ]
    return await _first(openings, NEXT_IP_SECONDS)


async def _ips(host: str, port: int) -> list[str]:
    """The addresses of a name, at least one. Errors: OSError."""
    if port > MAX_PORT:
        raise socket.gaierror(socket.EAI_SERVICE, "no number of a port")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "no name of a host") from None
    return list(dict.fromkeys(str(it[4][0]) for it in found))


async def _first(openings: Sequence[_Opening], seconds: float) -> BrokerConnection:
    """The first connection that is open. Each next one is begun as one before fails, or after so many
    seconds."""
    errors: list[Exception] = []
    tasks: list[asyncio.Future[BrokerConnection]] = []
    pending: set[asyncio.Future[BrokerConnection]] = set()
    waiting = list(reversed(openings))
    try:
        while waiting or pending:
            if waiting:
                tasks.append(asyncio.ensure_future(waiting.pop()()))
                pending.add(tasks[-1])
            done, pending = await asyncio.wait(
                pending,
                timeout=seconds if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                try:
                    made = task.result()
                except (OSError, EOFError, KafkaSecurityError, IncompatibleBrokerVersion) as error:
                    errors.append(error)
                else:
                    tasks.remove(task)
                    return made
    finally:
        abandon(tasks)
    raise next((it for it in errors if isinstance(it, KafkaSecurityError)), errors[0])


def abandon(openings: Iterable[asyncio.Future[BrokerConnection]]) -> None:
    """Ends connections that nobody needs any more, those too that are open in a moment. It waits for none: a
    caller that is cancelled while it waits would lose the others."""
    for opening in openings:
        opening.cancel()
        opening.add_done_callback(_abort)


def _abort(opening: asyncio.Future[BrokerConnection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().abort()


def check_security(settings: Settings) -> None:
    """For threads without an event loop: errors as `is_reachable`'s, and none where no broker answers."""
    with ThreadPoolExecutor(1) as pool:  # this thread may run a loop
        pool.submit(asyncio.run, is_reachable(settings)).result()
