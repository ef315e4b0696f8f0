"""How far the flows are behind the log: asked in the background, so that no read pays for it.

The ends are the broker's and the fences the store's, so a flow that hangs, is paused or is dead looks
just as late as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.kafka.end_offsets import Ends, Place
from infra.settings import Settings
from infra.store import redis_client
from schemas.flows import BY_NAME, FOLDS
from schemas.state import fences, poison
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from serving.metrics import Metrics
from serving.state.background import STALE_AFTER_SECONDS, Background, Fault
from serving.state.generation import Generation

EVERY_SECONDS: Final = 0.9
MAX_LAG_RECORDS: Final = 10_000
"""Records behind, beyond which a read says that it is stale."""
HANGS_SECONDS: Final = 10.0
"""A flow that has something to fold and has not moved for so long hangs, or is gone."""
WHY: Final[Mapping[str, str]] = {
    "paused": "nothing but records that cannot be decoded comes, and it waits (freshet dead-letters list).",
    "hangs": f"nothing was folded for {HANGS_SECONDS:g} s although there is more: reads lack what was done"
    " since. Does the flow run (freshet status)?",
    "behind": f"more than {MAX_LAG_RECORDS:,} records are not folded yet: reads say that they are stale.",
}
"""Why a flow is at fault, by code."""
Stands = tuple[str, int]
"""Flow and partition."""


class Lag(Background):
    """`paused`: partitions in which nothing but poison comes (`schemas.state.poison`)."""

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
        self._read_at = float("-inf")
        self._since: dict[Stands, float] = {}
        """Since when each stands where it stands, although there is more."""
        self.flows = {flow.name: f"flow_{flow.name}" for flow in counts}
        """Flow -> its name among the parts of the server."""
        self.paused: set[Stands] = set()

    def end_offset(self, flow: str, partition: int) -> int | None:
        """Where the log ends; None where the broker has not said so lately."""
        if time.monotonic() - self._heard > STALE_AFTER_SECONDS:
            return None
        return self._ends.get((BY_NAME[flow].topic, partition))

    def is_late(self, partition: int, held: Fence | None) -> bool:
        """Whether more than `MAX_LAG_RECORDS` records of this partition are not folded into a person's state
        that was read with the fence `held`. The end is the last one received: a log does not shrink."""
        end = self._ends.get((EVENTS.name, partition), 0)
        return end - (held.offset if held else 0) > MAX_LAG_RECORDS

    def set_gauges(self) -> None:
        """Sets the gauges, NaN where nobody knows."""
        for flow, p in self.places:
            end, stands = self.end_offset(flow, p), self._fences.get((flow, p))
            known = end is not None and stands is not None
            behind = max(0, end - stands) if known else math.nan  # type: ignore[operator]
            self._metrics.set("freshet_behind_records", behind, flow=flow, partition=str(p))

    def faults(self) -> Iterator[Fault]:
        """Flows that fold nothing although there is something, or are far behind; those of which neither
        the broker nor the store says anything lately are not told of."""
        if time.monotonic() - self._read_at > STALE_AFTER_SECONDS:
            return
        for flow, part in self.flows.items():
            for code, text in WHY.items():
                if its := [p for f, p in self.places if f == flow and self._why(f, p) == code]:
                    which = ", ".join(map(str, its))
                    yield Fault(part, code, f"{flow}, partition {which}: {text}")

    def _why(self, flow: str, partition: int) -> str | None:
        place = flow, partition
        if place in self.paused:
            return "paused"
        if time.monotonic() - self._since.get(place, math.inf) > HANGS_SECONDS:
            return "hangs"
        behind = (self.end_offset(flow, partition) or 0) - self._fences.get(place, 0)
        return "behind" if behind > MAX_LAG_RECORDS else None

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
        # a fence that cannot be read is one that nobody heard of
        with contextlib.suppress(RedisError, OSError, ValueError, msgspec.MsgspecError):
            await self._read()

    async def _read(self) -> None:
        names = []
        for flow, p in self.places:
            of = self._generation.keyspace.of_flow(BY_NAME[flow])
            names += [of.fence(flow, p), of.poison(flow, p), of.accepted(flow, p)]
        held = iter(await redis_client.mget_async(self._redis, names))
        paused, now = set(), time.monotonic()
        if now - self._read_at > STALE_AFTER_SECONDS:
            self._since.clear()  # what happened meanwhile, nobody knows
        self._read_at = now
        for place, stands, row, mark in zip(self.places, held, held, held, strict=True):
            at, end = fences.decode(stands).offset if stands else 0, self.end_offset(*place)
            if at != self._fences.get(place) or end is None or end <= at:
                self._since.pop(place, None)
            else:
                self._since.setdefault(place, now)
            self._fences[place] = at
            if poison.paused(poison.number(row), at, poison.number(mark), self._limit):
                paused.add(place)
        self.paused = paused
