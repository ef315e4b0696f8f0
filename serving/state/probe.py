"""Whether Redis and the broker answer: probed every second, reported by `/health/ready`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import redis.asyncio
from kafka.protocol.metadata import MetadataRequest

from infra.kafka.connection import BrokerConnection
from infra.kafka.reachable import open_any
from infra.settings import Settings
from serving.state.background import STALE_AFTER_SECONDS, Background

POLL_SECONDS: Final = 1.0


class Probe(Background):
    """Two components of readiness in one task: ``redis`` and ``broker``."""

    name = "services"

    def __init__(self, settings: Settings, client: redis.asyncio.Redis) -> None:
        self._settings = settings
        self._broker: BrokerConnection | None = None
        self._redis = client
        self._answered_at = {"redis": float("-inf"), "broker": float("-inf")}

    @property
    def ready(self) -> bool:
        return all(self.reachable().values())

    def reachable(self) -> dict[str, bool]:
        """By service: whether it answered within the last `STALE_AFTER_SECONDS`."""
        now = time.monotonic()
        return {name: now - at < STALE_AFTER_SECONDS for name, at in self._answered_at.items()}

    async def start(self) -> None:
        await self._probe_all()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        if self._broker is not None:
            self._broker.abort()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._probe_all()

    async def _probe_all(self) -> None:
        for name, probe in (("redis", self._probe_redis), ("broker", self._probe_broker)):
            # any error counts as no answer
            with contextlib.suppress(Exception):
                async with asyncio.timeout(STALE_AFTER_SECONDS / 2):
                    await probe()
                self._answered_at[name] = time.monotonic()

    async def _probe_redis(self) -> None:
        await self._redis.ping()

    async def _probe_broker(self) -> None:
        if self._broker is None or self._broker.closed:
            self._broker = await open_any(self._settings)
        # one connection for good: TLS and SASL cost more than the question
        try:
            await self._broker.ask(MetadataRequest(topics=[]))
        except BaseException:
            self._broker.abort()
            raise
