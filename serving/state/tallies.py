"""What was accepted and is not counted, by reason: the sums over partitions, read when asked for."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.store import redis_client
from serving.state.generation import Generation

MAX_AGE_SECONDS: Final = 5.0
"""So long the sums read last are given again."""


class Tallies:
    """`partitions`: how many there are."""

    def __init__(self, redis: Redis, generation: Generation, partitions: int) -> None:
        self._redis, self._generation, self._partitions = redis, generation, partitions
        self._totals: dict[str, int] | None = None
        self._read_at = float("-inf")

    async def get(self) -> dict[str, int] | None:
        """Reason -> total, at most `MAX_AGE_SECONDS` old where the store answers; None where it never did.
        Errors: none."""
        if time.monotonic() - self._read_at > MAX_AGE_SECONDS:
            with contextlib.suppress(RedisError, OSError, ValueError):
                self._totals, self._read_at = await self._read(), time.monotonic()
        return self._totals

    async def _read(self) -> dict[str, int]:
        totals: Counter[str] = Counter()
        async with self._redis.pipeline(transaction=False) as pipe:
            for p in range(self._partitions):
                pipe.hgetall(self._generation.keyspace.tallies(p))
                pipe.hgetall(self._generation.keyspace.item_tallies(p))
            for held in await pipe.execute():
                fields = redis_client.fields(held)
                totals.update({reason.decode(): int(total) for reason, total in fields.items()})
        return dict(sorted(totals.items()))
