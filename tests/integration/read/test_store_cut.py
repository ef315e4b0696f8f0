"""A store whose connections break: every read returns, with the state or with `StoreDown`."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import uvloop

from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from schemas.alphabet import Pseudonym
from serving.decide.person import StoreDown
from serving.state.generation import Generation
from serving.state.log_end import LogEnd
from serving.state.people import PersonReader
from tests.chaos.proxy import HOST, Proxies

READS = 800
PERSON = Pseudonym("0" * 32)


async def read_while_it_breaks(settings: Settings, proxies: Proxies) -> Counter[str]:
    """Reads while connections are reset and refused in turns. Answers the outcomes of the reads."""
    client = redis_client.connect_async(settings)
    reader, results = (
        PersonReader(client, Generation(client, settings.keyspace), LogEnd(settings, ())),
        Counter[str](),
    )
    for n in range(READS):
        if n % 20 == 0:
            proxies.adjust("redis", is_open=n % 40 != 0, cut=True)
        reader._down_until = 0.0  # each is to try
        try:
            async with asyncio.timeout(10):
                await reader.read(PERSON, 0)
            results["read"] += 1
        except StoreDown as error:
            results[str(error)] += 1
    await client.aclose()
    return results


def test_a_read_returns_however_its_connection_breaks(settings: Settings) -> None:
    front, redis = services.free_port(), services.redis_ports(settings.redis_url)[0]
    proxies = Proxies({"redis": (front, redis)})
    through = msgspec.structs.replace(settings, redis_url=f"redis://{HOST}:{front}/0")
    try:
        results = uvloop.run(read_while_it_breaks(through, proxies))
    finally:
        proxies.close()
    assert sum(results.values()) == READS
    assert results["read"] > 0
    assert set(results) == {"read", "ConnectionError"}
