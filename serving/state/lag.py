"""How far the flows are behind the log: measured in the background, so that no read waits for it.

The end offsets come from the broker and the fences from the store, so the lag of a flow that hangs, is
paused or is dead is measured too.
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

from infra.kafka.end_offsets import EndOffsets, Place
from infra.settings import Settings
from infra.store import redis_client
from schemas.flows import BY_NAME, FOLDS
from schemas.state import fences, poison
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from serving.metrics import Metrics
from serving.state.background import STALE_AFTER_SECONDS, Background, Fault
from serving.state.generation import Generation

POLL_SECONDS: Final = 0.9
MAX_LAG_RECORDS: Final = 10_000
"""A read that lacks more records says that it is stale."""
HANG_SECONDS: Final = 10.0
"""A flow that has records to fold and whose fence has not moved for this long hangs, or is gone."""
FAULT_DETAILS: Final[Mapping[str, str]] = {
    "paused": "only records that cannot be decoded come, so the flow waits: see freshet dead-letters list.",
    "hangs": f"no record was folded for {HANG_SECONDS:g} s although the log has more, so reads are stale:"
    " see freshet status whether the flow runs.",
    "behind": f"more than {MAX_LAG_RECORDS:,} records are not folded yet: reads say that they are stale.",
}
"""The detail of each fault of a flow, by code."""
FlowPartition = tuple[str, int]
"""Flow and partition."""


class Lag(Background):
    """`paused`: partitions that a flow has paused, since only poison comes (`schemas.state.poison`).
    `partitions`: those of every fold."""

    name = "lag"
    ready = True
    """Reads are served without it."""

    def __init__(
        self, settings: Settings, redis: Redis, generation: Generation, metrics: Metrics
    ) -> None:
        self._redis, self._generation, self._metrics = redis, generation, metrics
        self._limit = settings.poison_limit
        counts = {flow: flow.partitions(settings.partitions) for flow in FOLDS}
        self.partitions: list[FlowPartition] = [
            (flow.name, p) for flow, n in counts.items() for p in range(n)
        ]
        self._end_offset_reader = EndOffsets(
            settings, {flow.topic: range(n) for flow, n in counts.items()}
        )
        self._end_offsets: dict[Place, int] = {}
        self._last_heard = float("-inf")
        self._fence_offsets: dict[FlowPartition, int] = {}
        self._fences_read_at = float("-inf")
        self._stuck_since: dict[FlowPartition, float] = {}
        """Since when (monotonic seconds) a fence has not moved although the log has more records."""
        self.flows = {flow.name: f"flow_{flow.name}" for flow in counts}
        """Flow -> its name among the components of the server."""
        self.paused: set[FlowPartition] = set()

    def end_offset(self, flow: str, partition: int) -> int | None:
        """The end offset of the flow's topic; None where it is older than `STALE_AFTER_SECONDS`."""
        if time.monotonic() - self._last_heard > STALE_AFTER_SECONDS:
            return None
        return self._end_offsets.get((BY_NAME[flow].topic, partition))

    def is_late(self, partition: int, fence: Fence | None) -> bool:
        """Whether more than `MAX_LAG_RECORDS` records of this partition are not folded into a person's state
        that was read with the fence `fence`. The end is the last one received: a log does not shrink."""
        end = self._end_offsets.get((EVENTS.name, partition), 0)
        return end - (fence.offset if fence else 0) > MAX_LAG_RECORDS

    def set_gauges(self) -> None:
        """Sets ``freshet_behind_records``, NaN where the end or the fence is unknown."""
        for flow, p in self.partitions:
            end, fence_offset = self.end_offset(flow, p), self._fence_offsets.get((flow, p))
            measured = end is not None and fence_offset is not None
            behind = max(0, end - fence_offset) if measured else math.nan  # type: ignore[operator]
            self._metrics.set("freshet_behind_records", behind, flow=flow, partition=str(p))

    def faults(self) -> Iterator[Fault]:
        """Flows that are paused, hang, or are far behind. Yields none while the fences are older than
        `STALE_AFTER_SECONDS`."""
        if time.monotonic() - self._fences_read_at > STALE_AFTER_SECONDS:
            return
        for flow, component in self.flows.items():
            for code, text in FAULT_DETAILS.items():
                if numbers := [
                    p for f, p in self.partitions if f == flow and self._fault_code(f, p) == code
                ]:
                    which = ", ".join(map(str, numbers))
                    yield Fault(component, code, f"{flow}, partition {which}: {text}")

    def _fault_code(self, flow: str, partition: int) -> str | None:
        key = flow, partition
        if key in self.paused:
            return "paused"
        if time.monotonic() - self._stuck_since.get(key, math.inf) > HANG_SECONDS:
            return "hangs"
        behind = (self.end_offset(flow, partition) or 0) - self._fence_offsets.get(key, 0)
        return "behind" if behind > MAX_LAG_RECORDS else None

    async def run(self) -> None:
        while True:
            await self._refresh()
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        await super().stop()
        await asyncio.to_thread(self._end_offset_reader.close)

    async def _refresh(self) -> None:
        if end_offsets := await asyncio.to_thread(self._end_offset_reader.get):
            self._end_offsets, self._last_heard = end_offsets, time.monotonic()
        # the fences read last are used while the store is away, or holds one that cannot be read
        with contextlib.suppress(RedisError, OSError, ValueError, msgspec.MsgspecError):
            await self._read_fences()

    async def _read_fences(self) -> None:
        keys = []
        for flow, p in self.partitions:
            flow_keys = self._generation.keyspace.for_flow(BY_NAME[flow])
            keys += [
                flow_keys.fence(flow, p),
                flow_keys.poison(flow, p),
                flow_keys.accepted(flow, p),
            ]
        values = iter(await redis_client.mget_async(self._redis, keys))
        paused, now = set(), time.monotonic()
        if now - self._fences_read_at > STALE_AFTER_SECONDS:
            self._stuck_since.clear()  # the fences may have moved meanwhile
        self._fences_read_at = now
        for key, fence, poisoned, accepted in zip(
            self.partitions, values, values, values, strict=True
        ):
            offset, end = fences.decode(fence).offset if fence else 0, self.end_offset(*key)
            if offset != self._fence_offsets.get(key) or end is None or end <= offset:
                self._stuck_since.pop(key, None)
            else:
                self._stuck_since.setdefault(key, now)
            self._fence_offsets[key] = offset
            if poison.paused(poison.number(poisoned), offset, poison.number(accepted), self._limit):
                paused.add(key)
        self.paused = paused
