"""The generation of people and tables that this process reads; published to the command that swaps it."""

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

POLL_SECONDS: Final = 0.25


class Generation(Background):
    """Follows the pointer to the live generation. `tables`: the generation whose tables are loaded, set by
    `TablesFollower`."""

    name = "generation"

    def __init__(self, redis: Redis, keyspace: Keyspace) -> None:
        self._redis = redis
        self.keyspace = keyspace
        """The keys of the generation that is live."""
        self._reader_id = secrets.token_hex(8)
        self._last_heard = float("-inf")
        self.tables = 0

    @property
    def live(self) -> int:
        return self.keyspace.generation

    @property
    def loaded(self) -> bool:
        """The pointer was read."""
        return self._last_heard > float("-inf")

    @property
    def ready(self) -> bool:
        return time.monotonic() - self._last_heard < STALE_AFTER_SECONDS

    async def start(self) -> None:
        await self._try_refresh()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.hdel(self.keyspace.followed(), self._reader_id)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._try_refresh()

    async def _try_refresh(self) -> None:
        # the store is away, or the pointer is no number: this process continues with its generation
        with contextlib.suppress(RedisError, OSError, ValueError):
            await self._refresh()

    async def _refresh(self) -> None:
        pointer: Any = await self._redis.get(self.keyspace.live())
        live = int(pointer or 0)
        if live != self.live:
            log.info("generation %d is live instead of %d", live, self.live)
            self.keyspace = self.keyspace.in_generation(live)
        # before the write: a full store can still be read
        self._last_heard = time.monotonic()
        reads = live if self.tables == live else -1
        entry = b"%d %d" % (reads, time.time_ns() // 1_000_000)
        await self._redis.hset(self.keyspace.followed(), self._reader_id, entry)
