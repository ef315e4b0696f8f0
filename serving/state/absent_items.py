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

from infra.settings import Settings
from schemas.identity import partition_of
from schemas.state import fences
from schemas.topics import ITEMS
from serving.state.log_end import LogEnd

ANSWER_SECONDS: Final = 1.5
"""How long broker and store have to answer."""
CATALOGUE: Final = "catalogue"


class AbsentItems:
    """Belongs to the event loop of `log_end`, which knows `ITEMS`."""

    def __init__(self, settings: Settings, redis: Redis, log_end: LogEnd) -> None:
        self._keyspace, self._partitions, self._redis = (
            settings.keyspace,
            settings.partitions,
            redis,
        )
        self._log_end = log_end

    async def is_absent(self, item_id: str) -> bool:
        """True: the catalogue lacks the item, and all that the broker had before this call is folded. False:
        it has the item, or that is not certain. Errors: none."""
        partition = partition_of(item_id.encode(), self._partitions)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                end = (await self._log_end.ask() or {}).get((ITEMS.name, partition))
                # the fence after the end: what is folded up to there includes all that was acknowledged
                folded, held = await self._held(partition, item_id)
        except (RedisError, OSError, TimeoutError, ValueError, msgspec.MsgspecError):
            return False
        return end is not None and folded >= end and not held

    async def _held(self, partition: int, item_id: str) -> tuple[int, bool]:
        """The offset before which all is folded, and whether the item is there then."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._keyspace.fence(CATALOGUE, partition))
            pipe.hexists(self._keyspace.items(partition), item_id)
            replies: Any = await pipe.execute()
        fence, held = replies
        return fences.decode(fence).offset if fence else 0, bool(held)
