"""Whether Redis and the broker answer: asked every second, told by `/health/ready`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import redis.asyncio

from infra.settings import Settings
from serving.log.reachable import check_reachable
from serving.state.background import STALE_AFTER_SECONDS, Background

EVERY_SECONDS: Final = 1.0


class Probe(Background):
    name = "services"

    def __init__(self, settings: Settings, client: redis.asyncio.Redis) -> None:
        self._brokers = settings.kafka_bootstrap.split(",")
        self._redis = client
        self._answered = {"redis": float("-inf"), "broker": float("-inf")}

    @property
    def ready(self) -> bool:
        return all(self.answers().values())

    def answers(self) -> dict[str, bool]:
        """By service: whether it answered within the last `STALE_AFTER_SECONDS`."""
        now = time.monotonic()
        return {name: now - at < STALE_AFTER_SECONDS for name, at in self._answered.items()}

    async def start(self) -> None:
        await self._ask()
        await super().start()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._ask()

    async def _ask(self) -> None:
        for name, question in (("redis", self._ask_redis), ("broker", self._ask_broker)):
            # whatever goes wrong is the answer "no"
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STALE_AFTER_SECONDS / 2):
                    await question()
                self._answered[name] = time.monotonic()

    async def _ask_redis(self) -> None:
        await self._redis.ping()

    async def _ask_broker(self) -> None:
        await check_reachable(self._brokers)
