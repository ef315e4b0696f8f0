"""Whether a Kafka broker answers: the simplest request, on a connection of its own."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Final

# ApiVersions v0, the first request of any Kafka client: size, key 18, version, id, no client name
_API_VERSIONS_REQUEST: Final = struct.pack(">ihhih", 10, 18, 0, 7, -1)
ANSWER_TIMEOUT_SECONDS: Final = 1.7
"""A broker that takes longer is away."""


async def is_reachable(addresses: Sequence[str]) -> bool:
    """Whether one of the brokers answers within `ANSWER_TIMEOUT_SECONDS`."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            await check_reachable(addresses)
    except (OSError, EOFError):  # a time-out is an OSError
        return False
    return True


async def check_reachable(addresses: Sequence[str]) -> None:
    """Probes all brokers at once and returns as soon as one answers. Errors: OSError, EOFError where none
    does. It waits for ever for a broker that accepts the connection and does not answer."""
    error: Exception = ConnectionError()
    probes = [asyncio.create_task(_probe(address.strip())) for address in addresses]
    try:
        for answer in asyncio.as_completed(probes):
            try:
                return await answer
            except (OSError, EOFError) as failure:
                error = failure
    finally:
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
    raise error


async def _probe(address: str) -> None:
    """Sends one request to ``host:port``. Errors: OSError, EOFError."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(_API_VERSIONS_REQUEST)
        _, correlation = struct.unpack(">ii", await reader.readexactly(8))
        if correlation != 7:
            raise ConnectionError("not a Kafka broker")
    finally:
        writer.close()
