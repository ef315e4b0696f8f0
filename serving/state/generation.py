"""Which generation of people and tables this process reads; told to whoever swaps them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.keys import Keyspace
from serving.state.background import STALE_AFTER_SECONDS, Background

log = logging.getLogger("freshet.serving")

LOOK_SECONDS: Final = 0.25


class Generation(Background):
    """Follows the pointer. `tables`: the generation whose tables are loaded, set by who loads them."""

    name = "generation"

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self._redis = redis
        self.keyspace = keyspace
        """The keys of the generation that is live."""
        self._who = secrets.token_hex(8)
        self._heard = float("-inf")
        self.tables = 0

    @property
    def live(self) -> int:
        return self.keyspace.generation

    @property
    def loaded(self) -> bool:
        """It was heard of at all."""
        return self._heard > float("-inf")

    @property
    def ready(self) -> bool:
        return time.monotonic() - self._heard < STALE_AFTER_SECONDS

    async def start(self) -> None:
        await self._try()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.hdel(self.keyspace.followed(), self._who)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._try()

    async def _try(self) -> None:
        # the store away, or a pointer that is none: what is read now goes on being read
        with contextlib.suppress(RedisError, OSError, ValueError):
            await self._look()

    async def _look(self) -> None:
        held: Any = await self._redis.get(self.keyspace.live())
        live = int(held or 0)
        if live != self.live:
            log.info("generation %d is live instead of %d", live, self.live)
            self.keyspace = self.keyspace.of(live)
        # a store that is full is still read
        self._heard = time.monotonic()
        reads = live if self.tables == live else -1
        told = b"%d %d" % (reads, time.time_ns() // 1_000_000)
        await self._redis.hset(self.keyspace.followed(), self._who, told)
