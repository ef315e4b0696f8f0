"""Whether a Kafka broker answers at all: the plainest question, on a connection of its own."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Final

# ApiVersions v0, the first thing that any Kafka client says: size, key 18, version, id, no client name
_HELLO: Final = struct.pack(">ihhih", 10, 18, 0, 7, -1)
ANSWER_SECONDS: Final = 1.7
"""Who takes longer is away."""


async def is_reachable(addresses: Sequence[str]) -> bool:
    """Whether one of them does, soon."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await check_reachable(addresses)
    except (OSError, EOFError):  # a time-out is an OSError
        return False
    return True


async def check_reachable(addresses: Sequence[str]) -> None:
    """Returns as soon as one of them does, all asked at once. Errors: OSError, EOFError where none does;
    it waits for ever for one that takes the connection and says nothing."""
    error: Exception = ConnectionError()
    asking = [asyncio.create_task(_hello(address.strip())) for address in addresses]
    try:
        for answer in asyncio.as_completed(asking):
            try:
                return await answer
            except (OSError, EOFError) as why:
                error = why
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise error


async def _hello(address: str) -> None:
    """``host:port``."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(_HELLO)
        _, correlation = struct.unpack(">ii", await reader.readexactly(8))
        if correlation != 7:
            raise ConnectionError("not a Kafka broker")
    finally:
        writer.close()
