"""Whether there is no such item: asked of the broker and of the store, for a patch that creates nothing.

A process's own table cannot say so: it may lag behind a put that another process acknowledged a moment ago.
An item is unknown only where the catalogue is folded up to the end that the log has now, and lacks it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.kafka.end_offsets import EndOffsets, Place
from infra.settings import Settings
from schemas.identity import partition_of
from schemas.state import fences
from schemas.topics import ITEMS

ANSWER_SECONDS: Final = 1.5
"""How long broker and store have to answer."""
CATALOGUE: Final = "catalogue"
EndOffsetsAsked = asyncio.Task[dict[Place, int] | None]


class AbsentItems:
    """Belongs to one event loop. Connects to the broker at the first question."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._keyspace, self._partitions, self._redis = (
            settings.keyspace,
            settings.partitions,
            redis,
        )
        self._end_offsets = EndOffsets(settings, {ITEMS.name: range(settings.partitions)})
        self._asked: EndOffsetsAsked | None = None
        self._next: EndOffsetsAsked | None = None

    async def is_absent(self, item_id: str) -> bool:
        """True: the catalogue lacks the item, and all that the broker had before this call is folded. False:
        it has the item, or that is not certain. Errors: none."""
        partition = partition_of(item_id.encode(), self._partitions)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                end = (await self._end_offsets_from_now() or {}).get((ITEMS.name, partition))
                # the fence after the end: what is folded up to there includes all that was acknowledged
                folded, held = await self._held(partition, item_id)
        except (RedisError, OSError, TimeoutError, ValueError, msgspec.MsgspecError):
            return False
        return end is not None and folded >= end and not held

    async def close(self) -> None:
        for task in (self._asked, self._next):
            if task is not None:
                await asyncio.wait({task})
        await asyncio.to_thread(self._end_offsets.close)

    async def _held(self, partition: int, item_id: str) -> tuple[int, bool]:
        """The offset before which all is folded, and whether the item is there then."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._keyspace.fence(CATALOGUE, partition))
            pipe.hexists(self._keyspace.items(partition), item_id)
            replies: Any = await pipe.execute()
        fence, held = replies
        return fences.decode(fence).offset if fence else 0, bool(held)

    async def _end_offsets_from_now(self) -> dict[Place, int] | None:
        """End offsets that the broker is asked for after this call. Callers share a request that has not
        begun."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask(self._asked))
        return await asyncio.shield(self._next)

    async def _ask(self, before: EndOffsetsAsked | None) -> dict[Place, int] | None:
        if before is not None:
            await asyncio.wait({before})
        self._asked, self._next = self._next, None
        return await asyncio.to_thread(self._end_offsets.ask)
