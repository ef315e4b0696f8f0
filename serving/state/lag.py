"""How far the flows are behind the log: asked in the background, so that no read pays for it.

The ends are the broker's and the fences the store's, so a flow that hangs, is paused or is dead looks
just as late as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.kafka.end_offsets import Ends, Place
from infra.settings import Settings
from infra.store import client as store
from schemas import fence, keys, poison
from schemas.fence import Fence
from schemas.flows import BY_NAME, FOLDS
from schemas.topics import EVENTS
from serving.metrics import Metrics
from serving.state.background import Background
from serving.state.generation import Generation

EVERY_SECONDS: Final = 0.9
LATELY_SECONDS: Final = 5.0
"""An older answer of the broker's is not told any more."""
LATE: Final = 10_000
"""Records behind, beyond which a read says that it is stale."""
Stands = tuple[str, int]
"""Flow and partition."""


class Lag(Background):
    """`paused`: partitions in which nothing but poison comes (`schemas.poison`)."""

    name = "lag"
    ready = True
    """Reads go on without it."""

    def __init__(
        self, settings: Settings, redis: Redis, generation: Generation, metrics: Metrics
    ) -> None:
        self._redis, self._generation, self._metrics = redis, generation, metrics
        self._limit = settings.poison_limit
        counts = {flow: flow.partitions(settings.partitions) for flow in FOLDS}
        self.places: list[Stands] = [(flow.name, p) for flow, n in counts.items() for p in range(n)]
        self._asks = Ends(settings, {flow.topic: range(n) for flow, n in counts.items()})
        self._ends: dict[Place, int] = {}
        self._heard = float("-inf")
        self._fences: dict[Stands, int] = {}
        self.paused: set[Stands] = set()

    def end(self, flow: str, partition: int) -> int | None:
        """Where the log ends; None where the broker has not said so lately."""
        if time.monotonic() - self._heard > LATELY_SECONDS:
            return None
        return self._ends.get((BY_NAME[flow].topic, partition))

    def late(self, partition: int, held: Fence | None) -> bool:
        """Whether people of this partition, read with the fence `held`, lack more than `LATE` records.
        By the ends as last heard of: a log does not shrink."""
        end = self._ends.get((EVENTS.name, partition), 0)
        return end - (held.offset if held else 0) > LATE

    def tell(self) -> None:
        """Sets the gauges, NaN where nobody knows."""
        for flow, p in self.places:
            end, stands = self.end(flow, p), self._fences.get((flow, p))
            known = end is not None and stands is not None
            behind = max(0, end - stands) if known else math.nan  # type: ignore[operator]
            self._metrics.set("freshet_behind_records", behind, flow=flow, partition=str(p))

    async def run(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(EVERY_SECONDS)

    async def stop(self) -> None:
        await super().stop()
        await asyncio.to_thread(self._asks.close)

    async def _look(self) -> None:
        if ends := await asyncio.to_thread(self._asks.get):
            self._ends, self._heard = ends, time.monotonic()
        with contextlib.suppress(RedisError, OSError):
            await self._read()

    async def _read(self) -> None:
        names = []
        for flow, p in self.places:
            of = BY_NAME[flow].generation(self._generation.live)
            names += [keys.fence(flow, p, of), keys.poison(flow, p, of), keys.accepted(flow, p)]
        held = iter(await store.mget_async(self._redis, names))
        paused = set()
        for place, stands, row, mark in zip(self.places, held, held, held, strict=True):
            at = fence.decode(stands).offset if stands else 0
            self._fences[place] = at
            if poison.paused(poison.number(row), at, poison.number(mark), self._limit):
                paused.add(place)
        self.paused = paused
