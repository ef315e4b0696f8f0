"""Reads that were shed, by experiment: counted here, and added up in Redis for all workers.

What this process has counted goes to Redis once a second. What a process that dies had not written is lost,
and of a write that fails nobody knows whether it counted: it is not sent again. So the sums are at most the
truth; the process's own counter (``freshet_shed_total``) has all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.store import redis_client
from schemas.events import Assigned
from schemas.keys import SHED_SECONDS, Keyspace
from serving.metrics import Metrics
from serving.state.background import Background

WRITE_SECONDS: Final = 1.0
NO_EXPERIMENT: Final = "none"


class ShedReads(Background):
    """`keyspace`: of any generation, since the sums are the same in all."""

    name = "shed"

    def __init__(self, redis: Redis, keyspace: Keyspace, metrics: Metrics) -> None:
        self._redis, self._key, self._metrics = redis, keyspace.shed(), metrics
        self._counted: Counter[str] = Counter()

    @property
    def ready(self) -> bool:
        """Always: nothing but these sums needs them."""
        return True

    def count(self, placement: str, experiments: tuple[Assigned, ...]) -> None:
        """Counts a read that was shed. `experiments`: in which its person is."""
        metrics = self._metrics
        metrics.add("freshet_answers_total", placement=placement, fallback="overload")
        for it in experiments:
            self._counted[field(it.experiment, it.version, it.variant)] += 1
            metrics.add("freshet_shed_total", experiment=it.experiment, variant=it.variant)
        if not experiments:
            metrics.add("freshet_shed_total", experiment=NO_EXPERIMENT, variant=NO_EXPERIMENT)

    async def of(self, experiment: str, version: int) -> dict[str, int]:
        """Variant -> how many reads were shed, of all workers. Errors: RedisError, OSError."""
        start = field(experiment, version, "")
        held = redis_client.fields(await self._redis.hgetall(self._key))
        return {
            name.decode().removeprefix(start): int(total)
            for name, total in held.items()
            if name.decode().startswith(start)
        }

    async def run(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def stop(self) -> None:
        await super().stop()
        await self.write()

    async def write(self) -> None:
        """Adds what was counted since the last time. Errors: none."""
        counted, self._counted = self._counted, Counter()
        if not counted:
            return
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with (
                asyncio.timeout(WRITE_SECONDS),
                self._redis.pipeline(transaction=False) as pipe,
            ):
                for name, reads in counted.items():
                    pipe.hincrby(self._key, name, reads)
                pipe.expire(self._key, SHED_SECONDS)
                await pipe.execute()


def field(experiment: str, version: int, variant: str) -> str:
    """The field of a variant in the hash. No id has a slash (`schemas.control.TOKEN`).

    >>> field("home-ranker", 3, "b")
    'home-ranker/3/b'
    """
    return f"{experiment}/{version}/{variant}"
