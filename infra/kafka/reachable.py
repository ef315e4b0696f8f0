"""Whether a Kafka broker answers, and lets us in: by a connection as every other, with TLS and SASL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kafka.errors import IncompatibleBrokerVersion

from infra.kafka.connection import BrokerConnection
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings

DEFAULT_PORT: Final = 9092
OnLost = Callable[[BrokerConnection, Exception | None], None]


def addresses(servers: Sequence[str]) -> list[tuple[str, int]]:
    """Host and port of each of ``host:port``; a port that is not named is 9092.

    >>> addresses(["one:1234", " [::1]:9093", "two"])
    [('one', 1234), ('[::1]', 9093), ('two', 9092)]
    """
    found = []
    for server in map(str.strip, servers):
        host, _, port = server.rpartition(":")
        found.append((host, int(port)) if host else (server, DEFAULT_PORT))
    return found


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
    """A connection to the first broker that answers; all are asked at once. `servers`: as `is_reachable`'s.

    Errors: as `BrokerConnection.open`'s, `KafkaSecurityError` before others.
    """
    errors: list[Exception] = []
    opening = [
        asyncio.create_task(BrokerConnection.open(settings, host, port, on_lost))
        for host, port in addresses(servers or settings.kafka_bootstrap.split(","))
    ]
    kept: BrokerConnection | None = None
    try:
        for opened in asyncio.as_completed(opening):
            try:
                kept = await opened
                return kept
            except (OSError, EOFError, KafkaSecurityError, IncompatibleBrokerVersion) as error:
                errors.append(error)
    finally:
        for task in opening:
            task.cancel()
        for made in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(made, BrokerConnection) and made is not kept:
                made.abort()
    raise next((it for it in errors if isinstance(it, KafkaSecurityError)), errors[0])


def check_security(settings: Settings) -> None:
    """For threads without an event loop: errors as `is_reachable`'s, and none where no broker answers."""
    with ThreadPoolExecutor(1) as pool:  # this thread may run a loop
        pool.submit(asyncio.run, is_reachable(settings)).result()
