"""Followers: load a state from the store, then apply the stream of its changes.

After every fault (the store away, emptied, or trimmed past our position) a follower loads again; until it
has, the state in process stays and serves.
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
MAX_ENTRIES_PER_READ: Final = 500
CLUSTER_POLL_SECONDS: Final = 0.1
"""Between reads of the streams of a cluster."""
_MIN_PAUSE_SECONDS: Final = 0.1
_MAX_PAUSE_SECONDS: Final = 2.0

StreamId = tuple[int, int]
StreamEntry = tuple[StreamId, dict[bytes, bytes]]
NO_ENTRY: Final[StreamId] = (0, 0)


class Gap(Exception):
    """The stream no longer holds the next entry: load again."""


class Follower(Background):
    """One state. A subclass implements `load`, which reads the state and fills `last_ids`, and `apply`."""

    name: str = ""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.last_ids: dict[bytes, StreamId] = {}
        """Stream -> id of the last entry taken from it."""
        self.loaded = False
        self.unreadable = ""
        """Why the stored state cannot be read by this version, and the remedy; empty where it can."""
        self._last_heard = float("-inf")

    @property
    def ready(self) -> bool:
        """Loaded, and the store answered within `STALE_AFTER_SECONDS`."""
        return self.loaded and time.monotonic() - self._last_heard < STALE_AFTER_SECONDS

    async def load(self) -> None:
        """Reads the state and, in the same transaction, the last id of each stream."""
        raise NotImplementedError

    async def apply(self, stream: bytes, entries: list[StreamEntry]) -> None:
        """Applies the next entries of `stream`. Errors: `Gap`."""
        raise NotImplementedError

    async def run(self) -> None:
        pauses = Pauses(_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS)
        while True:
            try:
                await self.load()
                gc.freeze()  # what was loaded lives long: a collection of it would only stop us
                self.loaded, self._last_heard, self.unreadable = True, time.monotonic(), ""
                while True:
                    await self._take_new()
                    pauses.reset()
            except (Gap, RedisError, OSError, ValueError, msgspec.MsgspecError) as error:
                log.info("%s: loading again after %s", self.name, type(error).__name__)
                if isinstance(error, ValueError | msgspec.MsgspecError):
                    self._log_unreadable(error)
                await asyncio.sleep(next(pauses))

    def _log_unreadable(self, error: Exception) -> None:
        """Logs once until the state is loaded."""
        if not self.unreadable:
            self.unreadable = (
                f"the store holds what this version cannot read ({type(error).__name__}): start the version"
                " that wrote it, or fold the log again (freshet rebuild --from beginning)"
            )
            log.error("%s: %s", self.name, self.unreadable)

    async def _take_new(self) -> None:
        """Applies new entries, or waits up to `BLOCK_MS` for some. Errors: `Gap`."""
        after: dict[Any, Any] = {stream: _format_id(last) for stream, last in self.last_ids.items()}
        reply = await _xread(self.redis, after)
        await self.check_gaps()
        self._last_heard = time.monotonic()
        for stream, raw in reply:
            entries = parsed([(stream, raw)])
            await self.apply(stream, entries)
            self.last_ids[stream] = entries[-1][0]

    async def check_gaps(self) -> None:
        """Errors: `Gap` where a stream was trimmed past our last id, or ends before it."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for stream in self.last_ids:
                pipe.xrange(stream, count=1)
                pipe.xrevrange(stream, count=1)
            bounds: list[Any] = await pipe.execute()
        for n, taken in enumerate(self.last_ids.values()):
            first, last = bounds[2 * n], bounds[2 * n + 1]
            if (_parse_id(last[0][0]) if last else NO_ENTRY) < taken or (
                first and _parse_id(first[0][0]) > taken
            ):
                raise Gap


async def _xread(client: Any, after: dict[Any, Any]) -> list[Any]:
    """The entries of streams after these ids; waits up to `BLOCK_MS` for some."""
    if len(after) == 1 or not redis_client.is_cluster(client):
        return list(await client.xread(after, count=MAX_ENTRIES_PER_READ, block=BLOCK_MS))
    # streams of several slots: no one node can block on all of them
    reads = [
        client.xread({stream: id_}, count=MAX_ENTRIES_PER_READ) for stream, id_ in after.items()
    ]
    entries = [stream_entries for reply in await asyncio.gather(*reads) for stream_entries in reply]
    if not entries:
        await asyncio.sleep(CLUSTER_POLL_SECONDS)
    return entries


def parsed(reply: Any) -> list[StreamEntry]:
    """The entries in the reply to an XREAD of one stream."""
    return [(_parse_id(name), fields) for _, raw in reply for name, fields in raw]


def last_id(reply: Any) -> StreamId:
    """The id in the reply of XREVRANGE key + - COUNT 1; `NO_ENTRY` of an empty stream."""
    return _parse_id(reply[0][0]) if reply else NO_ENTRY


def _parse_id(name: bytes) -> StreamId:
    milliseconds, _, sequence = name.partition(b"-")
    return int(milliseconds), int(sequence)


def _format_id(entry: StreamId) -> str:
    return f"{entry[0]}-{entry[1]}"
