"""Followers: load a state from the store, then go on with the stream of its changes.

Whatever goes wrong (the store away, emptied, or trimmed past us) ends in loading again; until that
is done, what is in process stays and serves.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from infra.backoff import Pauses
from infra.store import redis_client
from serving.state.background import STALE_AFTER_SECONDS, Background

log = logging.getLogger("freshet.serving")

BLOCK_MS: Final = 1000
COUNT: Final = 500
PAUSE_SECONDS: Final = 0.1
"""Between looks at the streams of a cluster."""
_FIRST_PAUSE: Final = 0.1
_LAST_PAUSE: Final = 2.0

StreamId = tuple[int, int]
StreamEntry = tuple[StreamId, dict[bytes, bytes]]
NO_ENTRY: Final[StreamId] = (0, 0)


class Gap(Exception):
    """The stream no longer holds what comes next: load again."""


class Follower(Background):
    """One state. A subclass has `load`, which reads all and fills `places`, and `apply`."""

    name: str = ""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.places: dict[bytes, StreamId] = {}
        """Stream -> id of the last entry taken from it."""
        self.loaded = False
        self.unreadable = ""
        """What the store holds that this version cannot read, and the remedy, where that is why it is not
        loaded or not heard of."""
        self._heard = float("-inf")

    @property
    def ready(self) -> bool:
        """Loaded, and heard of lately."""
        return self.loaded and time.monotonic() - self._heard < STALE_AFTER_SECONDS

    async def load(self) -> None:
        """Reads the state and, in the same transaction, the last id of each stream."""
        raise NotImplementedError

    async def apply(self, stream: bytes, entries: list[StreamEntry]) -> None:
        """Takes the next entries. Errors: `Gap`."""
        raise NotImplementedError

    async def run(self) -> None:
        pauses = Pauses(_FIRST_PAUSE, _LAST_PAUSE)
        while True:
            try:
                await self.load()
                gc.freeze()  # what was loaded lives on: no collection need look at it, and stop us
                self.loaded, self._heard, self.unreadable = True, time.monotonic(), ""
                while True:
                    await self._go_on()
                    pauses.reset()
            except (Gap, RedisError, OSError, ValueError, msgspec.MsgspecError) as error:
                log.info("%s: loading again after %s", self.name, type(error).__name__)
                if isinstance(error, ValueError | msgspec.MsgspecError):
                    self._tell(error)
                await asyncio.sleep(next(pauses))

    def _tell(self, error: Exception) -> None:
        """Once until it is loaded, however often that is tried."""
        if not self.unreadable:
            self.unreadable = (
                f"the store holds what this version cannot read ({type(error).__name__}): start the version"
                " that wrote it, or fold the log again (freshet rebuild --from beginning)"
            )
            log.error("%s: %s", self.name, self.unreadable)

    async def _go_on(self) -> None:
        """Takes what is new, or waits up to `BLOCK_MS` for it. Errors: `Gap`."""
        after: dict[Any, Any] = {stream: _text(last) for stream, last in self.places.items()}
        reply = await _xread(self.redis, after)
        await self.check()
        self._heard = time.monotonic()
        for stream, raw in reply:
            entries: list[StreamEntry] = [(_id(name), fields) for name, fields in raw]
            await self.apply(stream, entries)
            self.places[stream] = entries[-1][0]

    async def check(self) -> None:
        """Errors: `Gap` where a stream was trimmed past our place, or ends before it."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for stream in self.places:
                pipe.xrange(stream, count=1)
                pipe.xrevrange(stream, count=1)
            ends: list[Any] = await pipe.execute()
        for n, mine in enumerate(self.places.values()):
            first, last = ends[2 * n], ends[2 * n + 1]
            if (_id(last[0][0]) if last else NO_ENTRY) < mine or (
                first and _id(first[0][0]) > mine
            ):
                raise Gap


async def _xread(client: Any, after: dict[Any, Any]) -> list[Any]:
    """What streams hold after these ids; waits up to `BLOCK_MS` for something."""
    if len(after) == 1 or not redis_client.is_cluster(client):
        return list(await client.xread(after, count=COUNT, block=BLOCK_MS))
    # of several slots: nobody can wait for all of them in one place
    asked = [client.xread({stream: id_}, count=COUNT) for stream, id_ in after.items()]
    found = [part for reply in await asyncio.gather(*asked) for part in reply]
    if not found:
        await asyncio.sleep(PAUSE_SECONDS)
    return found


def last_id(reply: Any) -> StreamId:
    """Of the reply of XREVRANGE key + - COUNT 1."""
    return _id(reply[0][0]) if reply else NO_ENTRY


def _id(name: bytes) -> StreamId:
    time_part, _, number = name.partition(b"-")
    return int(time_part), int(number)


def _text(entry: StreamId) -> str:
    return f"{entry[0]}-{entry[1]}"
